use std::io;
use std::sync::Arc;

use super::rows::Positioned;

/// Bytes of many images in one file that has no name and goes with its last user.
///
/// Two of them are equal where they are the same one.
#[derive(Clone, Debug)]
pub struct Spool(Arc<Positioned>);

impl PartialEq for Spool {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Spool {}

impl Spool {
    /// `len` bytes from `at` on.
    pub(super) fn read(&self, at: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.0.read(&mut bytes, at)?;
        Ok(bytes)
    }
}

#[cfg(feature = "parquet")]
pub(super) use filling::Filling;

#[cfg(feature = "parquet")]
mod filling {
    use std::fs::File;
    use std::io::{self, BufWriter, Write};
    use std::sync::Arc;

    use super::{Positioned, Spool};

    /// A [`Spool`] while it is filled.
    #[derive(Debug)]
    pub struct Filling {
        to: BufWriter<File>,
        at: u64,
    }

    impl Filling {
        /// In the system's folder for temporary files (`TMPDIR`).
        pub fn new() -> io::Result<Self> {
            Ok(Self { to: BufWriter::with_capacity(1 << 18, tempfile::tempfile()?), at: 0 })
        }

        /// Appends; returns where.
        pub fn push(&mut self, bytes: &[u8]) -> io::Result<u64> {
            self.to.write_all(bytes)?;
            self.at += bytes.len() as u64;
            Ok(self.at - bytes.len() as u64)
        }

        /// Nothing more is appended.
        pub fn done(self) -> io::Result<Spool> {
            let file = self.to.into_inner().map_err(io::IntoInnerError::into_error)?;
            Ok(Spool(Arc::new(Positioned::new(file))))
        }
    }
}
