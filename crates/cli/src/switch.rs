//! `nemoterm on` and `nemoterm off`: suggestions in every shell of this user.

use std::{fs, io};

use crate::{daemon, failure::Failure};

/// Brings suggestions back.
pub fn on() -> anyhow::Result<()> {
    let path = daemon::locate()?.off_switch();
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::plain(format!("{} can't be removed: {error}", path.display())).into())
        }
        _ => Ok(()),
    }
}

/// Silences every shell until `on`, or until the machine restarts.
pub fn off() -> anyhow::Result<()> {
    let runtime = daemon::locate()?;
    runtime.create().map_err(|error| Failure::new(error.to_string(), error.hint()))?;
    let path = runtime.off_switch();
    fs::write(&path, "")
        .map_err(|error| Failure::plain(format!("{} can't be written: {error}", path.display())).into())
}
