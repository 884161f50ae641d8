//! What can be typed of webhooks.

use clap::{Args, Subcommand};
use upbeat_model::WebhookName;

/// `webhook`.
#[derive(Debug, Args)]
pub struct WebhookArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: WebhookCommand,
}

/// Below `webhook`.
#[derive(Debug, Subcommand)]
pub enum WebhookCommand {
    /// List webhooks, how far each came, and what was not taken
    Ls,
    /// Send a test, signed as all are, and show what came back
    Test(WebhookTestArgs),
}

/// `webhook test`.
#[derive(Debug, Args)]
pub struct WebhookTestArgs {
    /// Which
    #[arg(value_name = "NAME")]
    pub name: WebhookName,
}
