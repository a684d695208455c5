//! What is wrong with a configuration, in words for the operator. Never holds a value.

use std::fmt;

/// Everything that is wrong with a configuration; never empty. Displayed one problem a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

/// One mistake of the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `section.key`, or `configuration file` when the file as a whole cannot be read.
    pub key: String,
    /// What is wrong and what would be right, without the value.
    pub message: String,
    /// The variable or the file that the value comes from; `not set` and the variable that would set it when no layer sets the key.
    pub origin: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.key, self.message, self.origin)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
