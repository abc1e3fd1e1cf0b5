//! TAP interfaces: Ethernet whose cable ends in a descriptor of this process, and goes with it.
//!
//! What the kernel sends through one is read here, a frame at a time behind a header of [`HEADER_BYTES`]
//! (`virtio_net_hdr`, which says what checksum or segmentation is still to be done); what is written, with such a header,
//! it receives. The calls are made in the network namespace of the calling thread.
#![expect(unsafe_code, reason = "no crate here has these ioctls, whose argument the kernel reads and writes")]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::ioctl::{IntegerSetter, Opcode, Updater, ioctl, opcode};
use rustix::net::netdevice::{index_to_name, name_to_index};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// What each frame begins with.
pub const HEADER_BYTES: usize = 10;
/// The largest that a read returns: a header, and the largest IP packet with its Ethernet header and a VLAN tag.
pub const MAX_FRAME_BYTES: usize = HEADER_BYTES + 18 + 65_535;
/// Where the kernel gives TAPs out.
pub const DEVICE: &str = "/dev/net/tun";
/// How the kernel is to name them.
const NAME: &[u8] = b"sextant%d";
/// Frames that wait for this process to read them: some milliseconds of a fast link.
const QUEUE_FRAMES: i32 = 2_048;

const TUNSETIFF: Opcode = opcode::write::<libc::c_int>(b'T', 202);
const TUNSETOFFLOAD: Opcode = opcode::write::<libc::c_uint>(b'T', 208);
const SIOCGIFFLAGS: Opcode = 0x8913;
const SIOCSIFFLAGS: Opcode = 0x8914;
const SIOCGIFHWADDR: Opcode = 0x8927;
const SIOCSIFTXQLEN: Opcode = 0x8943;

/// `ifreq` of the kernel: an interface's name, and a union that begins with what these requests are about.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    value: [u8; 24],
}

const _: () = assert!(size_of::<Request>() == size_of::<libc::ifreq>());

impl Request {
    fn of(name: &[u8], value: &[u8]) -> io::Result<Self> {
        let mut request = Self { name: [0; libc::IFNAMSIZ], value: [0; 24] };
        // One byte less: the kernel wants a zero at the end.
        if name.len() >= request.name.len() || value.len() > request.value.len() {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        request.name[..name.len()].copy_from_slice(name);
        request.value[..value.len()].copy_from_slice(value);
        Ok(request)
    }

    fn make<const OPCODE: Opcode>(&mut self, fd: impl AsFd) -> io::Result<()> {
        // SAFETY: the private callers name opcodes that read and write an `ifreq`, and this is one: plain bytes, as many
        // and as aligned, borrowed for the call.
        unsafe { ioctl(fd, Updater::<OPCODE, Self>::new(self)) }.map_err(Into::into)
    }

    fn short(&self) -> u16 {
        u16::from_ne_bytes([self.value[0], self.value[1]])
    }
}

/// An interface of this process; gone when it is dropped, or the process ends in whatever way.
#[derive(Debug)]
pub struct Tap {
    fd: OwnedFd,
    links: Links,
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
}

impl Tap {
    /// Makes one that is not up yet, and is read without waiting. With `offload` frames come as the kernel has them: many
    /// packets as one, checksums to be filled in; without, as they go onto a wire. Needs `CAP_NET_ADMIN`.
    ///
    /// # Errors
    /// No such device, or the kernel's refusal.
    pub fn new(offload: bool) -> io::Result<Self> {
        let fd = open(DEVICE, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
        #[expect(clippy::cast_possible_truncation, reason = "flags of a field of 16 bits")]
        let flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as u16;
        let mut request = Request::of(NAME, &flags.to_ne_bytes())?;
        request.make::<TUNSETIFF>(&fd)?;
        let features = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
        let features = if offload { features as usize } else { 0 };
        // SAFETY: this opcode takes a number.
        unsafe { ioctl(&fd, IntegerSetter::<TUNSETOFFLOAD>::new_usize(features)) }?;
        let name = String::from_utf8_lossy(&request.name).trim_end_matches('\0').to_owned();
        let links = Links::new()?;
        let index = links.index(&name)?;
        Request::of(name.as_bytes(), &QUEUE_FRAMES.to_ne_bytes())?.make::<SIOCSIFTXQLEN>(&links.0)?;
        Ok(Self { fd, links, name, index })
    }

    /// Switches it on.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn up(&self) -> io::Result<()> {
        let mut request = Request::of(self.name.as_bytes(), &[])?;
        request.make::<SIOCGIFFLAGS>(&self.links.0)?;
        #[expect(clippy::cast_possible_truncation, reason = "a flag of a field of 16 bits")]
        let flags = request.short() | libc::IFF_UP as u16;
        Request::of(self.name.as_bytes(), &flags.to_ne_bytes())?.make::<SIOCSIFFLAGS>(&self.links.0)
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The interfaces of one network namespace, from whatever thread.
#[derive(Debug)]
pub struct Links(OwnedFd);

impl Links {
    /// Of the calling thread's namespace.
    ///
    /// # Errors
    /// The kernel gives no socket.
    pub fn new() -> io::Result<Self> {
        Ok(Self(socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?))
    }

    /// The interface's index.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn index(&self, name: &str) -> io::Result<u32> {
        Ok(name_to_index(&self.0, name)?)
    }

    /// The interface's name.
    ///
    /// # Errors
    /// There is none of this index any more.
    pub fn name(&self, index: u32) -> io::Result<String> {
        Ok(index_to_name(&self.0, index)?)
    }

    /// Whether it is one of Ethernet. The loopback interface is not: its frames look so, but are nothing without the
    /// route that they carry unseen.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn is_ethernet(&self, name: &str) -> io::Result<bool> {
        let mut request = Request::of(name.as_bytes(), &[])?;
        request.make::<SIOCGIFHWADDR>(&self.0)?;
        // The field is a `sockaddr`, which begins with its family, here the kind of hardware.
        Ok(request.short() == libc::ARPHRD_ETHER)
    }
}
