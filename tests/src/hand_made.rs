//! Pods made by hand: real cgroups in a real hierarchy and sleeping processes in them, without any runtime.
//!
//! Needs root. Everything is below one group of its own, and ends when dropped: processes first, groups after.

#![expect(
    clippy::disallowed_methods,
    reason = "starts processes, and waits in real time for the kernel to let groups go"
)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

const ROOT: &str = "/sys/fs/cgroup";

/// Groups and processes, all below `<hierarchy>/sextant-<pid>-<name>`.
pub struct HandMade {
    hierarchy: PathBuf,
    name: String,
    children: Vec<Child>,
}

impl HandMade {
    /// A group of its own in `hierarchy`.
    ///
    /// # Errors
    /// When groups cannot be made there: not root, or not mounted.
    pub fn new(hierarchy: &Path, name: &str) -> Result<Self> {
        let name = format!("sextant-{}-{name}", std::process::id());
        let path = hierarchy.join(&name);
        fs::create_dir(&path).with_context(|| format!("cannot make the group {}", path.display()))?;
        Ok(Self { hierarchy: hierarchy.to_owned(), name, children: Vec::new() })
    }

    /// Every hierarchy of this machine: the v2 root, or v1's and what is mounted beside them.
    ///
    /// # Errors
    /// When there is none.
    pub fn hierarchies() -> Result<Vec<PathBuf>> {
        let is_hierarchy = |path: &Path| path.join("cgroup.procs").exists();
        if is_hierarchy(Path::new(ROOT)) {
            return Ok(vec![ROOT.into()]);
        }
        let known = ["pids", "memory", "unified"].map(|name| Path::new(ROOT).join(name));
        let found: Vec<_> = known.into_iter().filter(|path| is_hierarchy(path)).collect();
        if found.is_empty() {
            bail!("no cgroup hierarchy below {ROOT}");
        }
        Ok(found)
    }

    /// Every tree of this machine: the v2 root, or all of v1's with what is mounted beside them. The last one is v2 where
    /// there is one.
    ///
    /// # Errors
    /// When there is none.
    pub fn trees() -> Result<Vec<PathBuf>> {
        let is_tree = |path: &Path| path.join("cgroup.procs").exists();
        if is_tree(Path::new(ROOT)) {
            return Ok(vec![ROOT.into()]);
        }
        let known = ["cpu", "cpuacct", "memory", "blkio", "pids", "unified"];
        let found: Vec<_> =
            known.into_iter().map(|name| Path::new(ROOT).join(name)).filter(|path| is_tree(path)).collect();
        if found.is_empty() {
            bail!("no cgroup tree below {ROOT}");
        }
        Ok(found)
    }

    /// Path below the hierarchy, as the pod map tells it.
    pub fn cgroup(&self, group: &str) -> String {
        format!("/{}/{group}", self.name)
    }

    /// The group's directory.
    pub fn path(&self, group: &str) -> PathBuf {
        self.hierarchy.join(&self.name).join(group)
    }

    /// Makes a group and those above it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn group(&self, group: &str) -> Result<PathBuf> {
        let path = self.path(group);
        fs::create_dir_all(&path).with_context(|| format!("cannot make the group {}", path.display()))?;
        Ok(path)
    }

    /// Starts `count` sleeping processes in `group`; their pids.
    ///
    /// # Errors
    /// When a process or group cannot be made.
    pub fn sleepers(&mut self, group: &str, count: usize) -> Result<Vec<u32>> {
        let procs = self.group(group)?.join("cgroup.procs");
        let mut pids = Vec::with_capacity(count);
        for _ in 0..count {
            let child =
                Command::new("sleep").arg("86400").stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
            let pid = child.id();
            self.children.push(child);
            fs::write(&procs, pid.to_string())?;
            pids.push(pid);
        }
        Ok(pids)
    }

    /// Starts a shell that moves itself to `group`, waits for a line, and does what the script says; its pid, and the
    /// pipe for the line.
    ///
    /// # Errors
    /// When a process or group cannot be made.
    pub fn shell(&mut self, group: &str, script: &str) -> Result<(u32, ChildStdin)> {
        let procs = self.group(group)?.join("cgroup.procs");
        let script = format!("echo $$ > {} || exit 1; echo there; read line; {script}", procs.display());
        let mut shell = Command::new("sh");
        let mut child = shell.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (stdin, stdout) = (child.stdin.take().context("no pipe")?, child.stdout.take());
        self.children.push(child);
        let mut said = String::new();
        BufReader::new(stdout.context("no pipe")?).read_line(&mut said)?;
        ensure!(said == "there\n", "the shell could not move to {}", procs.display());
        Ok((self.children.last().map_or(0, Child::id), stdin))
    }

    /// Ends one process.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn kill(&mut self, pid: u32) -> Result<()> {
        let at = self.children.iter().position(|child| child.id() == pid).context("not one of these")?;
        self.children[at].kill()?;
        self.children.swap_remove(at).wait()?;
        Ok(())
    }
}

impl Drop for HandMade {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _already_gone = child.kill();
        }
        for child in &mut self.children {
            let _already_gone = child.wait();
        }
        // A group is busy until the kernel has buried its last process.
        for _ in 0..50 {
            if remove(&self.path("")) {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

fn remove(group: &Path) -> bool {
    let below = fs::read_dir(group).into_iter().flatten().flatten();
    let dirs = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut all = true;
    for dir in dirs {
        all &= remove(&dir.path());
    }
    all && fs::remove_dir(group).is_ok()
}
