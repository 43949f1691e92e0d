//! Starts the Jobs of CronJobs when they are due.

mod missed;
mod model;
mod plan;

use crate::Context;
use crate::runtime::{CATCH_UP, Key, Outcome, OwnWrites, Queue, feed_owner, work};
use crate::views::{managed_by, reference};
use jiff::Timestamp;
use missed::until_next;
use model::{API_VERSION, CronJob, CronStatus, Job, KIND, job_reference};
use plan::{Input, Start, Told, plan};
use skep_api::{Object, Status};
use skep_client::{
    Client, ClientExt, Collection, DeleteOptions, Informer, Propagation, Recorder, Reference, WriteOptions,
    typed,
};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

const CONTROLLER: &str = "cronjob-controller";

struct Controller {
    client: Arc<dyn Client>,
    crons: Informer,
    jobs: Informer,
    events: Recorder,
    writes: OwnWrites,
    job_writes: OwnWrites,
}

fn crons() -> Collection {
    Collection::of("batch", "v1", "cronjobs")
}

fn jobs() -> Collection {
    Collection::of("batch", "v1", "jobs")
}

/// Starts the controller.
pub(crate) fn start(context: &Context) {
    let client = context.client(CONTROLLER);
    let controller = Arc::new(Controller {
        events: Recorder::start(client.clone(), CONTROLLER, ""),
        client,
        crons: context.informers.of(&crons()),
        jobs: context.informers.of(&jobs()),
        writes: OwnWrites::default(),
        job_writes: OwnWrites::default(),
    });
    let queue = Queue::default();
    follow(&controller.crons, &queue);
    feed_owner(&controller.jobs, &queue, KIND);
    work("cronjob", &queue, 5, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

/// Adds the CronJobs that change: at once, or, where the schedule changed, when the new one is due.
fn follow(crons: &Informer, queue: &Queue) {
    let (mut changes, queue) = (crons.subscribe(), queue.clone());
    tokio::spawn(async move {
        while let Some(change) = changes.recv().await {
            let Some(latest) = change.latest() else { continue };
            let wait =
                change.old.as_ref().zip(change.new.as_ref()).and_then(|(old, new)| rescheduled(old, new));
            match wait {
                Some(wait) => queue.add_after(Key::of(latest), wait),
                None => queue.add(Key::of(latest)),
            }
        }
    });
}

/// How long to wait for a new schedule, where it is new.
fn rescheduled(old: &Object, new: &Object) -> Option<Duration> {
    let (old, new) = (old.decode::<CronJob>().ok()?, new.decode::<CronJob>().ok()?);
    if (&old.spec.schedule, &old.spec.time_zone) == (&new.spec.schedule, &new.spec.time_zone) {
        return None;
    }
    until_next(&new.schedule().ok()?, new.last(), Timestamp::now())
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Outcome {
        if !self.writes.seen(key, &self.crons)
            || !self.jobs.is_synced()
            || !self.job_writes.seen(key, &self.jobs)
        {
            return Ok(Some(CATCH_UP));
        }
        let Some(object) = self.crons.get(&key.namespace, &key.name) else { return Ok(None) };
        let cron: CronJob = typed::decode(&object)?;
        let own: Vec<Job> = self.own_jobs(&object)?;
        let plan = plan(&Input {
            cron: &cron,
            jobs: &own,
            gone: &self.gone(key, &cron, &own).await?,
            now: Timestamp::now(),
        });
        let about = reference(API_VERSION, KIND, &object);
        let mut status = plan.status.clone();
        for (name, uid) in &plan.expire {
            // One that cannot be deleted now is tried again the next time.
            let _ = self.delete(key, &about, name, uid, &mut status).await;
        }
        self.tell(&about, &plan.events);
        let started = self.replace_and_start(key, &object, &about, &plan, &mut status).await;
        self.write_status(key, &object, &cron.status, &status).await?;
        started.map(|()| plan.again)
    }

    fn own_jobs(&self, cron: &Object) -> Result<Vec<Job>, Status> {
        let meta = cron.meta();
        let near = self.jobs.namespace(&meta.namespace).into_iter();
        near.filter(|job| managed_by(job.meta(), &meta.uid)).map(|job| typed::decode(&job)).collect()
    }

    /// The active Jobs that the view does not have and the server does not either.
    async fn gone(&self, key: &Key, cron: &CronJob, own: &[Job]) -> Result<HashSet<String>, Status> {
        let mut gone = HashSet::new();
        for job in &cron.status.active {
            let (name, uid) =
                (job["name"].as_str().unwrap_or_default(), job["uid"].as_str().unwrap_or_default());
            if own.iter().any(|known| known.uid() == uid) {
                continue;
            }
            if self.client.find(&jobs().item(&key.namespace, name)).await?.is_none() {
                gone.insert(uid.to_owned());
            }
        }
        Ok(gone)
    }

    fn tell(&self, about: &Reference, events: &[Told]) {
        for (bad, reason, message) in events {
            if *bad {
                self.events.warning(about, reason, message.clone());
            } else {
                self.events.normal(about, reason, message.clone());
            }
        }
    }

    async fn delete(
        &self,
        key: &Key,
        about: &Reference,
        name: &str,
        uid: &str,
        status: &mut CronStatus,
    ) -> Result<(), Status> {
        let options =
            DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() };
        match self.client.delete(&jobs().item(&key.namespace, name), &options).await {
            Ok(left) => {
                if let Some(left) = left {
                    self.job_writes.note(key, left.revision());
                }
                status.forget(uid);
                self.events.normal(about, "SuccessfulDelete", format!("Deleted job {name}"));
                Ok(())
            }
            // It went before, and that has been told.
            Err(why) if why.is_not_found() => {
                status.forget(uid);
                Ok(())
            }
            Err(why) => {
                self.events.warning(about, "FailedDelete", format!("Deleted job: {why}"));
                Err(why)
            }
        }
    }

    async fn replace_and_start(
        &self,
        key: &Key,
        cron: &Object,
        about: &Reference,
        plan: &plan::Plan,
        status: &mut CronStatus,
    ) -> Result<(), Status> {
        for (name, uid) in &plan.replace {
            self.delete(key, about, name, uid, status).await?;
        }
        match &plan.start {
            Some(start) => self.start_job(key, cron, about, start, status).await,
            None => Ok(()),
        }
    }

    async fn start_job(
        &self,
        key: &Key,
        cron: &Object,
        about: &Reference,
        start: &Start,
        status: &mut CronStatus,
    ) -> Result<(), Status> {
        let within = jobs().within(&*key.namespace);
        let job = match self.client.create(&within, start.body.clone(), &WriteOptions::default()).await {
            Ok(job) => {
                self.job_writes.note(key, job.revision());
                self.events.normal(about, "SuccessfulCreate", format!("Created job {}", job.meta().name));
                job
            }
            Err(status) if status.is_already_exists() => {
                let name = start.body["metadata"]["name"].as_str().unwrap_or_default();
                // Its status may not have been written after it was made. Another's Job is left to him.
                let found = self.client.get(&within.object(name)).await?;
                if !managed_by(found.meta(), &cron.meta().uid) {
                    return Ok(());
                }
                found
            }
            Err(why) => {
                self.events.warning(about, "FailedCreate", format!("Error creating job: {why}"));
                return Err(why);
            }
        };
        if !status.has(&job.meta().uid) {
            status.active.push(job_reference(job.meta(), job.revision()));
        }
        status.last_schedule_time = Some(start.at);
        Ok(())
    }

    async fn write_status(
        &self,
        key: &Key,
        object: &Object,
        before: &CronStatus,
        status: &CronStatus,
    ) -> Result<(), Status> {
        if before == status {
            return Ok(());
        }
        let mut tree = object.value();
        tree["status"] = status.value();
        let target = crons().item(&key.namespace, &key.name).sub("status");
        match self.client.update(&target, tree, &WriteOptions::default()).await {
            Ok(cron) => {
                self.writes.note(key, cron.revision());
                Ok(())
            }
            Err(status) if status.is_not_found() => Ok(()),
            Err(status) => Err(status),
        }
    }
}
