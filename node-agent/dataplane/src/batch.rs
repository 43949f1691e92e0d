//! Reading maps many entries at a time (`BPF_MAP_LOOKUP_BATCH`, Linux 5.6 for hash maps).

use std::io;
use std::os::fd::BorrowedFd;

use skep_abi::Plain;

use crate::sys;

/// Entries read by one call.
pub(crate) const PIECE: usize = 4_096;

/// A place in a map from which to read on: of a hash map, the number of a bucket, which stays right whatever is written.
pub(crate) type Place = u32;

/// Entries, and where to go on.
pub(crate) type Piece<K, V> = (Vec<(K, V)>, Option<Place>);

/// The entries of a hash map from `at` on, about `count` of them, and where to go on; `None` at the end.
pub(crate) fn next<K: Plain, V: Plain>(
    map: BorrowedFd<'_>,
    at: Option<Place>,
    count: usize,
) -> io::Result<Piece<K, V>> {
    let (keys, values, next) = raw(map, at, count, size_of::<K>(), size_of::<V>())?;
    let keys = keys.chunks_exact(size_of::<K>()).map(read::<K>);
    let values = values.chunks_exact(size_of::<V>()).map(read::<V>);
    Ok((keys.zip(values).collect(), next))
}

/// The same as bytes: the keys, the values, and where to go on.
pub(crate) fn raw(
    map: BorrowedFd<'_>,
    at: Option<Place>,
    mut count: usize,
    key_size: usize,
    value_size: usize,
) -> io::Result<(Vec<u8>, Vec<u8>, Option<Place>)> {
    loop {
        let mut keys = vec![0; count * key_size];
        let mut values = vec![0; count * value_size];
        match sys::lookup_batch(map, at, &mut keys, &mut values, count as u32) {
            Ok((n, next)) => {
                keys.truncate(n as usize * key_size);
                values.truncate(n as usize * value_size);
                return Ok((keys, values, next));
            }
            // A bucket has more entries than there is room for.
            Err(e) if e.raw_os_error() == Some(libc::ENOSPC) && count < 1 << 20 => count *= 4,
            Err(e) => return Err(e),
        }
    }
}

/// A value out of its bytes.
pub(crate) fn read<T: Plain>(bytes: &[u8]) -> T {
    assert_eq!(bytes.len(), size_of::<T>());
    // SAFETY: as many bytes as the type has, of which each pattern is valid.
    #[allow(unsafe_code)]
    unsafe {
        bytes.as_ptr().cast::<T>().read_unaligned()
    }
}
