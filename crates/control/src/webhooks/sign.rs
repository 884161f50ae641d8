//! Who sent it: the secrets of a webhook, and what is said in the headers of its requests.
//!
//! As the open convention "Standard Webhooks" has it: HMAC-SHA256 over `id.timestamp.body`, in base64 behind
//! `v1,`. Several signatures, one for each secret, are separated by spaces: the receiver looks for one that is
//! right.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::hmac;
use upbeat_model::Wall;

/// A secret has so many bytes at least, as the convention asks for: nobody tries 2¹⁹².
pub const SECRET_BYTES_MIN: usize = 24;

/// The old one and the new one, while receivers learn the new one.
pub const SECRETS_MAX: usize = 2;

/// What precedes a secret that is written in base64.
const ENCODED: &str = "whsec_";

/// What a webhook signs with. Shown by nothing.
pub struct Secrets(Vec<hmac::Key>);

impl Secrets {
    /// From the text of their file: one in a line. A line that begins with `whsec_` holds the secret in base64;
    /// of any other, its bytes are the secret.
    ///
    /// Errors: what is wrong with them, without a word of theirs.
    pub fn read(text: &str) -> Result<Self, String> {
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        if lines.is_empty() {
            return Err("it is empty".into());
        }
        if lines.len() > SECRETS_MAX {
            return Err(format!(
                "it has {} lines, and {SECRETS_MAX} secrets at most are of use",
                lines.len()
            ));
        }
        lines.into_iter().map(key).collect::<Result<_, _>>().map(Self)
    }

    /// The headers of a request that says this.
    pub fn headers(&self, id: &str, at: Wall, body: &[u8]) -> BTreeMap<String, String> {
        let timestamp = at.0.div_euclid(1_000).to_string();
        let signatures: Vec<String> = self.0.iter().map(|key| signature(key, id, &timestamp, body)).collect();
        let headers = [
            ("webhook-id", id.to_owned()),
            ("webhook-timestamp", timestamp),
            ("webhook-signature", signatures.join(" ")),
        ];
        headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

fn key(line: &str) -> Result<hmac::Key, String> {
    let bytes = match line.strip_prefix(ENCODED) {
        Some(encoded) => {
            BASE64_STANDARD.decode(encoded).map_err(|_| format!("behind `{ENCODED}` is no base64"))?
        }
        None => line.as_bytes().to_vec(),
    };
    if bytes.len() < SECRET_BYTES_MIN {
        return Err(format!(
            "a secret of {} bytes can be guessed: it must have {SECRET_BYTES_MIN} at least",
            bytes.len()
        ));
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

fn signature(key: &hmac::Key, id: &str, timestamp: &str, body: &[u8]) -> String {
    let mut signed = hmac::Context::with_key(key);
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        signed.update(part);
    }
    format!("v1,{}", BASE64_STANDARD.encode(signed.sign()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The convention's own example.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;

    fn problem(text: &str) -> String {
        Secrets::read(text).err().expect("it is refused")
    }

    #[test]
    fn a_request_is_signed_as_the_convention_has_it() {
        let headers = Secrets::read(SECRET).unwrap().headers(ID, Wall(1_614_265_330_999), BODY);
        assert_eq!(headers["webhook-id"], ID);
        assert_eq!(headers["webhook-timestamp"], "1614265330");
        assert_eq!(headers["webhook-signature"], "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn of_two_secrets_both_sign_and_each_signs_as_it_would_alone() {
        let plain = "correct horse battery staple";
        let at = Wall(1_000);
        let alone =
            |text: &str| Secrets::read(text).unwrap().headers(ID, at, BODY)["webhook-signature"].clone();
        let both = alone(&format!("{plain}\r\n\n {SECRET}\n"));
        assert_eq!(both, format!("{} {}", alone(plain), alone(SECRET)));
        assert_ne!(alone(plain), alone(SECRET));
        let other = Secrets::read(plain).unwrap().headers("other", at, BODY)["webhook-signature"].clone();
        assert_ne!(other, alone(plain), "the id is signed, too");
    }

    #[test]
    fn what_is_no_secret_is_refused_without_a_word_of_it() {
        assert_eq!(problem("\n \n"), "it is empty");
        assert_eq!(
            problem("hush hush hush hush hus"),
            "a secret of 23 bytes can be guessed: it must have 24 at least"
        );
        assert_eq!(problem("whsec_not base64 at all"), "behind `whsec_` is no base64");
        assert!(problem("whsec_aHVzaA==").starts_with("a secret of 4 bytes"));
        let three = format!("{SECRET}\n{SECRET}\n{SECRET}\n");
        assert_eq!(problem(&three), "it has 3 lines, and 2 secrets at most are of use");
        // One that is good does not make up for the other.
        assert!(problem(&format!("{SECRET}\nshort\n")).starts_with("a secret of 5 bytes"));
    }
}
