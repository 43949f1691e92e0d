//! The few `bpf(2)` commands that the loader library does not offer for what is pinned: see the kernel's
//! `include/uapi/linux/bpf.h`. Each wrapper is one command.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use aya_obj::generated::bpf_cmd;

/// `struct bpf_link_info`, as far as links of cgroups and of interfaces fill it. What the kernel does not
/// know or need stays zero.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LinkInfo {
    /// `enum bpf_link_type`.
    pub(crate) kind: u32,
    /// The link's number.
    pub(crate) id: u32,
    /// The program's number.
    pub(crate) prog_id: u32,
    pad: u32,
    /// For a cgroup link its cgroup's number; for a TCX link the interface's index in the low half (zero once
    /// the interface is gone) and the attach type in the high half, on little-endian machines.
    words: [u32; 12],
}

impl LinkInfo {
    /// The cgroup's number, for a cgroup link.
    pub(crate) fn cgroup_id(&self) -> u64 {
        let [a, b, ..] = self.words;
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&a.to_ne_bytes());
        bytes[4..].copy_from_slice(&b.to_ne_bytes());
        u64::from_ne_bytes(bytes)
    }

    /// The interface's index, for a TCX link; zero once the interface is gone.
    pub(crate) fn ifindex(&self) -> u32 {
        self.words[0]
    }
}

fn bpf<T>(cmd: bpf_cmd, attr: &mut T) -> io::Result<i32> {
    let (number, size) = (cmd as libc::c_long, size_of::<T>());
    // SAFETY: attr is a #[repr(C)] prefix of union bpf_attr for this command, valid and writable for its whole
    // size, and pointers in it were taken from live values by the callers below.
    #[allow(unsafe_code)]
    let ret = unsafe { libc::syscall(libc::SYS_bpf, number, std::ptr::from_mut(attr), size) };
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(ret as i32) }
}

fn owned(fd: i32) -> OwnedFd {
    // SAFETY: the kernel just made this descriptor for us (close-on-exec), and nobody else has it.
    #[allow(unsafe_code)]
    unsafe {
        OwnedFd::from_raw_fd(fd)
    }
}

#[repr(C)]
struct ObjAttr {
    pathname: u64,
    fd: u32,
    flags: u32,
}

fn path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Opens what is pinned at a path.
pub(crate) fn obj_get(at: &Path) -> io::Result<OwnedFd> {
    let at = path(at)?;
    let mut attr = ObjAttr { pathname: at.as_ptr() as u64, fd: 0, flags: 0 };
    bpf(bpf_cmd::BPF_OBJ_GET, &mut attr).map(owned)
}

/// Pins an object at a path that does not exist yet.
pub(crate) fn obj_pin(fd: BorrowedFd<'_>, at: &Path) -> io::Result<()> {
    let at = path(at)?;
    let mut attr = ObjAttr { pathname: at.as_ptr() as u64, fd: fd.as_raw_fd() as u32, flags: 0 };
    bpf(bpf_cmd::BPF_OBJ_PIN, &mut attr).map(drop)
}

/// Attaches a program by a new link: `target` is a cgroup's descriptor or an interface's index.
pub(crate) fn link_create(prog: BorrowedFd<'_>, target: u32, attach_type: u32) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attr {
        prog_fd: u32,
        target: u32,
        attach_type: u32,
        flags: u32,
        relative: u32,
        pad: u32,
        expected_revision: u64,
    }
    let prog_fd = prog.as_raw_fd() as u32;
    let mut attr = Attr { prog_fd, target, attach_type, flags: 0, relative: 0, pad: 0, expected_revision: 0 };
    bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr).map(owned)
}

/// Exchanges the program of a link, atomically.
pub(crate) fn link_update(link: BorrowedFd<'_>, prog: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = [link.as_raw_fd() as u32, prog.as_raw_fd() as u32, 0, 0];
    bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// Detaches a link whoever else holds it.
pub(crate) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = [link.as_raw_fd() as u32];
    bpf(bpf_cmd::BPF_LINK_DETACH, &mut attr).map(drop)
}

/// What the kernel says about a link.
pub(crate) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut info = LinkInfo::default();
    info_of(link, size_of::<LinkInfo>() as u32, std::ptr::from_mut(&mut info) as u64)?;
    Ok(info)
}

/// Lets the kernel fill `len` bytes at `info` with what it says about an object.
fn info_of(fd: BorrowedFd<'_>, len: u32, info: u64) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        fd: u32,
        len: u32,
        info: u64,
    }
    let mut attr = Attr { fd: fd.as_raw_fd() as u32, len, info };
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr).map(drop)
}

/// The cookie of the calling thread's network namespace (`SO_NETNS_COOKIE`, Linux 5.14).
pub(crate) fn netns_cookie() -> io::Result<u64> {
    // A socket of any kind tells it.
    let socket = std::os::unix::net::UnixDatagram::unbound()?;
    let (mut cookie, mut len) = (0_u64, size_of::<u64>() as libc::socklen_t);
    // SAFETY: both pointers are to live values of the sizes said.
    #[allow(unsafe_code)]
    let ret = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            std::ptr::from_mut(&mut cookie).cast(),
            &raw mut len,
        )
    };
    if ret == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

/// Reads up to `count` entries of a hash map from `at` on; returns how many, and where to go on, `None` at the end. Fails with
/// `ENOSPC` where the next bucket has more.
pub(crate) fn lookup_batch(
    map: BorrowedFd<'_>,
    at: Option<u32>,
    keys: &mut [u8],
    values: &mut [u8],
    count: u32,
) -> io::Result<(u32, Option<u32>)> {
    #[repr(C)]
    struct Attr {
        from: u64,
        to: u64,
        keys: u64,
        values: u64,
        count: u32,
        map: u32,
        element_flags: u64,
        flags: u64,
    }
    let from = at.unwrap_or_default();
    let mut to = 0_u32;
    let mut attr = Attr {
        from: if at.is_some() { std::ptr::from_ref(&from) as u64 } else { 0 },
        to: std::ptr::from_mut(&mut to) as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count,
        map: map.as_raw_fd() as u32,
        element_flags: 0,
        flags: 0,
    };
    match bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr) {
        Ok(_) => Ok((attr.count, Some(to))),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok((attr.count, None)),
        Err(e) => Err(e),
    }
}

/// What a map is like, as far as it decides what can be stored in it (`struct bpf_map_info`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    /// `enum bpf_map_type`.
    pub(crate) kind: u32,
    /// Bytes of a key.
    pub(crate) key_size: u32,
    /// Bytes of a value.
    pub(crate) value_size: u32,
    /// How many entries it can hold.
    pub(crate) max_entries: u32,
    /// `BPF_F_*` as it was made with.
    pub(crate) flags: u32,
}

/// What the kernel says a map is like.
pub(crate) fn map_shape(map: BorrowedFd<'_>) -> io::Result<Shape> {
    // type, number, key size, value size, entries, flags
    let mut info = [0_u32; 6];
    let len = size_of_val(&info) as u32;
    info_of(map, len, std::ptr::from_mut(&mut info) as u64)?;
    let [kind, _, key_size, value_size, max_entries, flags] = info;
    Ok(Shape { kind, key_size, value_size, max_entries, flags })
}

#[repr(C)]
struct ElementAttr {
    map: u32,
    pad: u32,
    key: u64,
    /// The value, or where the next key is to be written.
    value: u64,
    flags: u64,
}

fn element(map: BorrowedFd<'_>, key: Option<&[u8]>, value: u64, flags: u64) -> ElementAttr {
    let key = key.map_or(0, |key| key.as_ptr() as u64);
    ElementAttr { map: map.as_raw_fd() as u32, pad: 0, key, value, flags }
}

fn absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

/// The key after one, or the first one; `None` at the end. `size` is that of the map's keys.
pub(crate) fn next_key(map: BorrowedFd<'_>, key: Option<&[u8]>, size: usize) -> io::Result<Option<Vec<u8>>> {
    let mut next = vec![0_u8; size];
    let mut attr = element(map, key, next.as_mut_ptr() as u64, 0);
    Ok(absent(bpf(bpf_cmd::BPF_MAP_GET_NEXT_KEY, &mut attr))?.map(|_| next))
}

/// A key's value; `width` is as much as the kernel hands over, for all processors where each has one.
pub(crate) fn lookup(map: BorrowedFd<'_>, key: &[u8], width: usize) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0_u8; width];
    let mut attr = element(map, Some(key), value.as_mut_ptr() as u64, 0);
    Ok(absent(bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attr))?.map(|_| value))
}

/// Writes an entry; key and value must have the sizes of the map.
pub(crate) fn update(map: BorrowedFd<'_>, key: &[u8], value: &[u8], flags: u64) -> io::Result<()> {
    let mut attr = element(map, Some(key), value.as_ptr() as u64, flags);
    bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
}

/// Waits until no program runs any more that ran when this was called: `MEMBARRIER_CMD_GLOBAL` waits for the grace period
/// that BPF programs run under.
pub(crate) fn wait_for_programs() -> io::Result<()> {
    /// `enum membarrier_cmd`.
    const GLOBAL: libc::c_long = 1;
    // SAFETY: the call takes three numbers.
    #[allow(unsafe_code)]
    let ret = unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0_u32, 0) };
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The monotonic clock, as programs read it (`bpf_ktime_get_ns`).
pub(crate) fn monotonic() -> io::Result<std::time::Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live value that the kernel fills.
    #[allow(unsafe_code)]
    let ret = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    if ret != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(std::time::Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// Loads a program with the verifier's statistics and gives it back at once; returns what the verifier said.
#[cfg(feature = "trial")]
pub(crate) fn prog_load(
    kind: u32,
    attach_type: u32,
    name: &std::ffi::CStr,
    instructions: &[aya_obj::generated::bpf_insn],
) -> io::Result<String> {
    /// Statistics and nothing else (`BPF_LOG_STATS`).
    const STATS: u32 = 4;
    #[repr(C)]
    struct Attr {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel: u32,
        flags: u32,
        name: [u8; 16],
        ifindex: u32,
        attach_type: u32,
    }
    let mut log = vec![0_u8; 64 * 1024];
    let mut short = [0_u8; 16];
    let named = name.to_bytes();
    let len = named.len().min(15);
    short[..len].copy_from_slice(&named[..len]);
    let mut attr = Attr {
        kind,
        count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: STATS,
        log_size: log.len() as u32,
        log: log.as_mut_ptr() as u64,
        kernel: 0,
        flags: 0,
        name: short,
        ifindex: 0,
        attach_type,
    };
    drop(owned(bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr)?));
    let end = log.iter().position(|b| *b == 0).unwrap_or(log.len());
    Ok(String::from_utf8_lossy(&log[..end]).into_owned())
}
