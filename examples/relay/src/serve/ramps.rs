//! What was used of quotas whose growth is bounded, kept over a restart in a file.
//!
//! Without it they begin at their floor again, which provokes nobody and costs hours.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use tokio::{sync::oneshot, task::JoinHandle, time::MissedTickBehavior};
use tower_relay::policy::RampState;

use super::routes::Routes;
use crate::{complain, config::Config};

/// What was sent since the last time is not in the file after a kill: it is then thought unused,
/// and growth begins from less.
const EVERY: Duration = Duration::from_secs(10);

/// The file's content.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    /// Milliseconds since 1970.
    saved_at: u64,
    ramps: Vec<SavedRamp>,
}

/// One quota's use of one unit.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedRamp {
    pub(super) upstream: String,
    pub(super) scope: String,
    /// In order; none for all models that no other quota names.
    pub(super) models: Vec<String>,
    pub(super) unit: String,
    /// Of each number in nanoseconds.
    pub(super) step: u64,
    /// The latest last.
    pub(super) used: Vec<u64>,
}

/// Has `config` go on with what was saved, if growth is bounded anywhere.
///
/// # Errors
///
/// In one line, if the file is not one of ours, which would be overwritten.
pub(super) fn resume(config: &mut Config) -> Result<(), String> {
    let is_ramped = |config: &Config| {
        let scopes = config
            .upstreams
            .iter()
            .flat_map(|upstream| &upstream.scopes);
        let mut quotas = scopes.flat_map(|scope| &scope.quotas);
        quotas.any(|quota| quota.ramped().next().is_some())
    };
    let Some(path) = config.state.clone().filter(|_| is_ramped(config)) else {
        return Ok(());
    };
    let text = match fs::read(&path) {
        Ok(text) if text.is_empty() => return Ok(()),
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            let (path, why) = (path.display(), error.kind());
            return Err(format!(
                "{path}: the state of ramps cannot be read: {why}; name another file with state"
            ));
        }
    };
    let Ok(saved) = serde_json::from_slice::<Saved>(&text) else {
        let path = path.display();
        return Err(format!(
            "{path}: this is no saved state; remove it, or name another file with state"
        ));
    };
    let saved_at = UNIX_EPOCH.checked_add(Duration::from_millis(saved.saved_at));
    let age = saved_at.and_then(|saved_at| SystemTime::now().duration_since(saved_at).ok());
    let Some(age) = age else {
        let path = path.display();
        complain(&format!(
            "warning: {path} was saved later than now; ramps begin at their floor"
        ));
        return Ok(());
    };
    for upstream in &mut config.upstreams {
        for scope in &mut upstream.scopes {
            for quota in &mut scope.quotas {
                let units: Vec<_> = quota.ramped().collect();
                for unit in units {
                    let models = in_order(quota.models.iter().map(String::as_str));
                    let mut ramps = saved.ramps.iter();
                    let same = ramps.find(|ramp| {
                        (&*ramp.upstream, &*ramp.scope) == (&*upstream.name, &*scope.name)
                            && (&*ramp.models, &*ramp.unit) == (&*models, unit.name())
                    });
                    if let Some(ramp) = same {
                        let step = Duration::from_nanos(ramp.step);
                        let state = RampState::new(step, &*ramp.used);
                        quota.resume(unit, &state, age);
                    }
                }
            }
        }
    }
    Ok(())
}

pub(super) fn in_order<'m>(models: impl Iterator<Item = &'m str>) -> Vec<String> {
    let mut models: Vec<_> = models.map(str::to_owned).collect();
    models.sort();
    models
}

/// Saves from time to time, and when it is told to end.
pub(super) struct Saver {
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Saver {
    pub(super) fn start(path: PathBuf, routes: Arc<Routes>) -> Self {
        let (end, mut ended) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut is_well = true;
            loop {
                let is_last = tokio::select! {
                    _ = &mut ended => true,
                    _ = ticks.tick() => false,
                };
                let ramps = routes.now().ramps();
                if !ramps.is_empty() {
                    is_well = save(path.clone(), ramps, is_well).await;
                }
                if is_last {
                    return;
                }
            }
        });
        Self { end, task }
    }

    /// Saves a last time.
    pub(super) async fn end(self) {
        let _ = self.end.send(());
        let _ = self.task.await;
    }
}

/// Whether it is saved; a failure is told once.
async fn save(path: PathBuf, ramps: Vec<SavedRamp>, was_well: bool) -> bool {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let saved = Saved {
        saved_at: since.unwrap_or_default().as_millis() as u64,
        ramps,
    };
    let shown = path.display().to_string();
    let written = tokio::task::spawn_blocking(move || write(&path, &saved));
    let problem = match written.await {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => error.kind().to_string(),
        Err(_) => "writing it failed".to_owned(),
    };
    if was_well {
        complain(&format!(
            "warning: {shown} cannot be written: {problem}; after a restart ramps begin at their \
             floor; name another file with state"
        ));
    }
    false
}

/// Whole or not at all, whenever the process or the machine stops.
fn write(path: &Path, saved: &Saved) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    // Another relay may end while this one begins.
    beside.push(format!(".{}", std::process::id()));
    let mut file = File::create(&beside)?;
    file.write_all(&serde_json::to_vec(saved)?)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}
