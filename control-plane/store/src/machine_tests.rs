use std::sync::atomic::{AtomicU64, Ordering};

use openraft::testing::{StoreBuilder, Suite};

use super::*;
use crate::testing::TempDir;

static DIRS: AtomicU64 = AtomicU64::new(0);

/// Log and state machine in a directory of their own.
fn build() -> (TempDir, Log, Applier) {
    let dir = TempDir::new(&format!("machine-{}", DIRS.fetch_add(1, Ordering::Relaxed)));
    for name in ["log", "checkpoint"] {
        std::fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    let history_limit = 1 << 20;
    let (checkpoints, state) =
        Checkpoints::open(&dir.path().join("checkpoint"), 1 << 20, history_limit).unwrap();
    let log = Log::open(&dir.path().join("log"), 64 << 10, None).unwrap();
    let applier = Applier {
        shared: Shared::new(state),
        log: log.clone(),
        checkpoints: Arc::new(Mutex::new(checkpoints)),
        made: Made::default(),
        history_limit,
    };
    (dir, log, applier)
}

struct Stores;

impl StoreBuilder<TypeConfig, Log, Applier, TempDir> for Stores {
    async fn build(&self) -> Result<(TempDir, Log, Applier), StorageError<u64>> {
        Ok(build())
    }
}

/// What openraft expects of a store, by its own tests. All of them but `get_initial_state_membership_from_log_and_sm`: it appends
/// entry 1 after entry 2 without truncating, which the log rightly refuses.
macro_rules! suite {
    ($($name:ident)*) => {
        mod openraft_suite {
            use super::{Applier, Log, Stores, Suite, TempDir, TypeConfig, build};
            type All = Suite<TypeConfig, Log, Applier, Stores, TempDir>;
            $(
                #[tokio::test]
                async fn $name() {
                    let (_dir, log, applier) = build();
                    All::$name(log, applier).await.unwrap();
                }
            )*
            #[tokio::test]
            async fn transfer_snapshot() {
                All::transfer_snapshot(&Stores).await.unwrap();
            }
        }
    };
}

suite! {
    last_membership_in_log_initial
    last_membership_in_log
    last_membership_in_log_multi_step
    get_membership_initial
    get_membership_from_log_and_empty_sm
    get_membership_from_empty_log_and_sm
    get_membership_from_log_le_sm_last_applied
    get_membership_from_log_gt_sm_last_applied_1
    get_membership_from_log_gt_sm_last_applied_2
    get_initial_state_without_init
    get_initial_state_with_state
    get_initial_state_last_log_gt_sm
    get_initial_state_last_log_lt_sm
    get_initial_state_log_ids
    get_initial_state_re_apply_committed
    save_vote
    get_log_entries
    limited_get_log_entries
    try_get_log_entry
    initial_logs
    get_log_state
    get_log_id
    last_id_in_log
    last_applied_state
    purge_logs_upto_0
    purge_logs_upto_5
    purge_logs_upto_20
    delete_logs_since_11
    delete_logs_since_0
    append_to_log
    snapshot_meta
    apply_single
    apply_multiple
}
