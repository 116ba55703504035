//! The text of a token: `hw_ID_SECRET`, with 256 random bits, of which only the hash is kept.

use farm::TokenId;
use farm::people::TOKEN_ID_LENGTH;

/// What every token begins with, so that people and scanners for leaked secrets know it.
const PREFIX: &str = "hw_";
/// The letters of an id: 32, so that 5 random bits choose one; those that look alike are left out.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// A new token: its id, its text for whoever asked, its hash for the record.
pub(super) struct Drawn {
    pub(super) id: TokenId,
    pub(super) text: String,
    pub(super) hash: String,
}

/// Draws a token.
pub(super) fn draw() -> Drawn {
    let mut bytes = [0; TOKEN_ID_LENGTH + 32];
    getrandom::fill(&mut bytes).expect("the system's randomness is available");
    let (id, secret) = bytes.split_at(TOKEN_ID_LENGTH);
    let id: String = id.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect();
    let secret: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = format!("{PREFIX}{id}_{secret}");
    Drawn { id: id.parse().expect("drawn as an id"), hash: super::token_file::hash(&text), text }
}

/// The id in a token's text; none where it is no token of a user.
pub(super) fn id_of(text: &str) -> Option<TokenId> {
    text.strip_prefix(PREFIX)?.split_once('_')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_by_its_id_and_known_by_its_hash() {
        let (one, other) = (draw(), draw());
        assert_eq!(id_of(&one.text), Some(one.id.clone()));
        assert_ne!(one.id, other.id);
        assert_eq!(one.text.len(), PREFIX.len() + TOKEN_ID_LENGTH + 1 + 64);
        assert!(super::super::token_file::matches(&one.text, &one.hash));
        assert!(!super::super::token_file::matches(&one.text, &other.hash));
        for text in ["", "hw_", "hw_short_00", &"0".repeat(64), "hw_ABCDEFGHIJ_00"] {
            assert_eq!(id_of(text), None, "{text}");
        }
    }
}
