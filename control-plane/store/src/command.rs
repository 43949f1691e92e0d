//! What the replicated log carries and what applying it answers.

use std::sync::Arc;

use crate::types::{Compare, Op, Revision, Txn, TxnOutcome};

/// One instruction to the state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Txn(Txn),
    /// Forget history before this revision.
    Compact {
        before: Revision,
    },
}

impl Command {
    /// About how many bytes it takes in the log.
    pub(crate) fn size(&self) -> usize {
        match self {
            Command::Compact { .. } => 9,
            Command::Txn(txn) => {
                let compare = |c: &Compare| c.key().len() + 16;
                let op = |op: &Op| match op {
                    Op::Put { key, value } => key.len() + value.len() + 16,
                    Op::Delete { key } => key.len() + 16,
                };
                16 + txn.compare.iter().map(compare).sum::<usize>() + txn.ops.iter().map(op).sum::<usize>()
            }
        }
    }
}

/// The commands of one log entry, applied in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch(pub(crate) Arc<[Command]>);

/// Answer to one [`Command`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Txn(TxnOutcome),
    Compacted,
}
