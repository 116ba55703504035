//! What a check found.

/// The most findings of a kind that are kept; all are counted.
const MOST_KEPT: usize = 1000;

/// The result of a check; the store is in order where there are no errors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// What is damaged or missing: the first 1,000.
    pub errors: Vec<String>,
    /// How many errors there are.
    pub error_count: u64,
    /// What is odd and does no harm: the first 1,000.
    pub warnings: Vec<String>,
    /// How many warnings there are.
    pub warning_count: u64,
    /// Versions whose record is whole.
    pub versions: u32,
    /// Layers that they use.
    pub layers: u32,
    /// Drafts.
    pub drafts: u32,
    /// Bytes of chunks that were hashed.
    pub bytes: u64,
}

impl CheckReport {
    pub(super) fn error(&mut self, text: String) {
        self.error_count += 1;
        if self.errors.len() < MOST_KEPT {
            self.errors.push(text);
        }
    }

    pub(super) fn warn(&mut self, text: String) {
        self.warning_count += 1;
        if self.warnings.len() < MOST_KEPT {
            self.warnings.push(text);
        }
    }
}
