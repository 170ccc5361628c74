//! How a command ends when it does not succeed, with the exit status users rely on.

use std::process::ExitCode;

/// Why a command stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Something went wrong while running: 1.
    #[error("{0:#}")]
    Failed(anyhow::Error),
    /// The command line or the configuration cannot be used: 2.
    #[error("{0:#}")]
    Usage(anyhow::Error),
    /// The kernel or the privileges do not allow it: 3.
    #[error("{0:#}")]
    Refused(anyhow::Error),
    /// `lint` found violations, which have been shown: 4.
    #[error("the contract is broken")]
    Violations,
    /// Standard output was closed by its reader: quietly 0.
    #[error("standard output was closed")]
    ClosedPipe,
}

impl Failure {
    /// A failure while running.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Failed(anyhow::Error::msg(message.into()))
    }

    /// A failure of usage or configuration.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(anyhow::Error::msg(message.into()))
    }

    /// A refusal by kernel or privileges.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::Refused(anyhow::Error::msg(message.into()))
    }

    /// Exit status.
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::ClosedPipe => 0,
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Refused(_) => 3,
            Self::Violations => 4,
        })
    }
}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Self {
        Self::Usage(error.into())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::ClosedPipe,
            _ => Self::Failed(error.into()),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}
