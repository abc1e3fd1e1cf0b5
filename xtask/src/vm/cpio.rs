//! Writes a cpio archive in the `newc` form, the one that the kernel unpacks as its first file system.

use std::io::Write;

use anyhow::{Context, Result};

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const CONSOLE: u32 = 0o020_600;

/// An archive in the making.
#[derive(Default)]
pub(crate) struct Cpio {
    bytes: Vec<u8>,
    entries: u32,
}

impl Cpio {
    /// A directory; its parents come first.
    pub(crate) fn directory(&mut self, path: &str) -> Result<()> {
        self.entry(path, DIRECTORY, (0, 0), &[])
    }

    /// An executable file.
    pub(crate) fn program(&mut self, path: &str, contents: &[u8]) -> Result<()> {
        self.entry(path, PROGRAM, (0, 0), contents)
    }

    /// A character device, as the kernel needs /dev/console before anything is mounted.
    pub(crate) fn device(&mut self, path: &str, major: u32, minor: u32) -> Result<()> {
        self.entry(path, CONSOLE, (major, minor), &[])
    }

    /// The finished archive.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>> {
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        Ok(self.bytes)
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), contents: &[u8]) -> Result<()> {
        self.entries += 1;
        let size = u32::try_from(contents.len()).context("a file of 4 GiB cannot be in a cpio archive")?;
        let name = u32::try_from(path.len() + 1).context("a path of 4 GiB")?;
        let inode = self.entries;
        let (major, minor) = device;
        // magic, then 13 numbers of 8 hexadecimal digits: ino mode uid gid nlink mtime filesize devmajor devminor
        // rdevmajor rdevminor namesize check
        write!(self.bytes, "070701{inode:08x}{mode:08x}{0:08x}{0:08x}{1:08x}{0:08x}{size:08x}", 0, 1)?;
        write!(self.bytes, "{0:08x}{0:08x}{major:08x}{minor:08x}{name:08x}{0:08x}", 0)?;
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(contents);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::Cpio;

    #[test]
    fn headers_are_110_bytes_and_parts_are_padded_to_four() {
        let mut archive = Cpio::default();
        archive.program("init", b"hello").expect("fits");
        let bytes = archive.finish().expect("fits");
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[6..22], b"00000001000081ed");
        assert_eq!(&bytes[54..62], b"00000005");
        assert_eq!(&bytes[94..102], b"00000005");
        assert_eq!(&bytes[110..115], b"init\0");
        // 115 is padded to 116; the contents end at 121, padded to 124, where the trailer begins.
        assert_eq!(&bytes[116..121], b"hello");
        assert_eq!(&bytes[124..130], b"070701");
        assert_eq!(bytes.len() % 4, 0);
    }
}
