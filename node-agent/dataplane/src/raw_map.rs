//! A map of whatever shape, read entry by entry as bytes.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use aya_obj::generated::bpf_map_type::{
    self, BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_LRU_HASH, BPF_MAP_TYPE_LRU_PERCPU_HASH, BPF_MAP_TYPE_PERCPU_ARRAY,
    BPF_MAP_TYPE_PERCPU_HASH,
};

use crate::error::{Error, Result};
use crate::pins::syscall;
use crate::sys::Shape;
use crate::{batch, sys};

/// Kinds with a value for each processor.
const PER_CPU: &[bpf_map_type] =
    &[BPF_MAP_TYPE_PERCPU_HASH, BPF_MAP_TYPE_LRU_PERCPU_HASH, BPF_MAP_TYPE_PERCPU_ARRAY];

/// Kinds that the kernel hands out many entries of at a time.
const HASHES: &[bpf_map_type] =
    &[BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_LRU_HASH, BPF_MAP_TYPE_PERCPU_HASH, BPF_MAP_TYPE_LRU_PERCPU_HASH];

/// The map.
pub(crate) struct RawMap {
    name: &'static str,
    map: OwnedFd,
    shape: Shape,
    values: usize,
}

impl RawMap {
    /// Asks the kernel what it is like.
    pub(crate) fn new(name: &'static str, map: OwnedFd) -> Result<Self> {
        let shape = sys::map_shape(map.as_fd()).map_err(syscall("BPF_OBJ_GET_INFO_BY_FD", name))?;
        let is_per_cpu = PER_CPU.iter().any(|kind| *kind as u32 == shape.kind);
        let values = if is_per_cpu {
            aya::util::nr_cpus().map_err(|(path, source)| Error::File {
                action: "cannot read",
                path: path.into(),
                source,
            })?
        } else {
            1
        };
        Ok(Self { name, map, shape, values })
    }

    /// Its name.
    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }

    /// What it is like.
    pub(crate) const fn shape(&self) -> &Shape {
        &self.shape
    }

    /// For how many processors an entry has a value.
    pub(crate) const fn values(&self) -> usize {
        self.values
    }

    /// Bytes of a value as the kernel hands it over: where there is one for each processor, each begins at a multiple of
    /// eight.
    pub(crate) const fn width(&self) -> usize {
        let size = self.shape.value_size as usize;
        if self.values == 1 { size } else { size.next_multiple_of(8) * self.values }
    }

    /// Every entry there is.
    pub(crate) fn entries(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut all = Vec::new();
        self.walk(|keys, values| {
            let values = values.chunks_exact(self.width()).map(<[u8]>::to_vec);
            all.extend(keys.chunks_exact(self.shape.key_size as usize).map(<[u8]>::to_vec).zip(values));
        })?;
        Ok(all)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> Result<u64> {
        let mut count = 0;
        self.walk(|keys, _| count += keys.len() as u64 / u64::from(self.shape.key_size.max(1)))?;
        Ok(count)
    }

    /// Hands over all keys with their values, some at a time, one after the other.
    fn walk(&self, mut take: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let key_size = self.shape.key_size as usize;
        if HASHES.iter().any(|kind| *kind as u32 == self.shape.kind) {
            let mut at = None;
            loop {
                let (keys, values, next) = batch::raw(self.fd(), at, batch::PIECE, key_size, self.width())
                    .map_err(syscall("BPF_MAP_LOOKUP_BATCH", self.name))?;
                take(&keys, &values);
                if next.is_none() {
                    return Ok(());
                }
                at = next;
            }
        }
        let mut key = None;
        // A key that goes meanwhile makes the walk begin anew; it is bounded for that.
        for _ in 0..u64::from(self.shape.max_entries) * 2 {
            let next = sys::next_key(self.fd(), key.as_deref(), key_size)
                .map_err(syscall("BPF_MAP_GET_NEXT_KEY", self.name))?;
            let Some(next) = next else { break };
            let value = sys::lookup(self.fd(), &next, self.width())
                .map_err(syscall("BPF_MAP_LOOKUP_ELEM", self.name))?;
            if let Some(value) = value {
                take(&next, &value);
            }
            key = Some(next);
        }
        Ok(())
    }
}
