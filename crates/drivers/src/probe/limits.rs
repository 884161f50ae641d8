//! What a service may use at most. See [`crate::usage`] for how it is counted.

use std::time::Duration;

use super::words::{self, No};
use super::{Answered, Asked, Inner};
use crate::usage::{Sharing, Usage};

impl Inner {
    async fn usage(&self, asked: &Asked<'_>, sharing: Sharing) -> Result<Usage, No> {
        let used = self.usages.of(asked.slot, asked.attempt, sharing).await;
        used.map_err(|error| words::unasked(&error))?.ok_or_else(|| "it does not run".into())
    }

    /// What processes share is only told apart where it matters: it takes longer.
    pub(super) async fn memory(&self, asked: &Asked<'_>, most: u64) -> Answered {
        let used = self.usage(asked, Sharing::DividedAbove(most)).await?.memory_bytes;
        let limit = words::bytes(most);
        match used <= most {
            true => Ok(format!("at most {limit} in memory")),
            false => Err(format!("about {} in memory, more than {limit}", words::about_bytes(used)).into()),
        }
    }

    pub(super) async fn descriptors(&self, asked: &Asked<'_>, most: u64) -> Answered {
        let usage = self.usage(asked, Sharing::Repeated).await?;
        let (used, hidden) = (usage.descriptors_most, usage.descriptors_hidden);
        if used > most {
            let about = words::open_files(words::about(used));
            return Err(format!("a process has about {about}, more than {most}").into());
        }
        match hidden {
            0 => Ok(format!("at most {}", words::open_files(most))),
            // A yes that does not know would be none.
            _ => Err("a process belongs to another user: its open files cannot be counted".into()),
        }
    }

    /// Since it was asked before. The first time nothing is known, and that is a yes.
    pub(super) async fn cpu(&self, asked: &Asked<'_>, most: u32) -> Answered {
        let now_ms = self.usage(asked, Sharing::Repeated).await?.cpu_ms;
        let mut percent = 0;
        self.times.replace(asked, |last| {
            percent = last.map_or(0, |(since, before_ms)| share(now_ms.saturating_sub(before_ms), since));
            now_ms
        });
        match percent <= u64::from(most) {
            true => Ok(format!("at most {most} % of a CPU")),
            false => Err(format!("about {} % of a CPU, more than {most} %", words::about(percent)).into()),
        }
    }
}

/// In hundredths of one processor.
fn share(used_ms: u64, of: Duration) -> u64 {
    let hundredths_ms = u128::from(used_ms) * 100;
    u64::try_from(hundredths_ms / of.as_millis().max(1)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_of_one_processor() {
        assert_eq!(share(500, Duration::from_secs(1)), 50);
        assert_eq!(share(4_000, Duration::from_secs(2)), 200);
        assert_eq!(share(10, Duration::ZERO), 1_000);
        assert_eq!(share(u64::MAX, Duration::from_millis(1)), u64::MAX);
    }
}
