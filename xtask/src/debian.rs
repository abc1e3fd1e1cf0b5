//! Debian packages without touching the machine: a private apt whose lists lie in the cache, and packages that are
//! unpacked, never installed. Mirror and keyring are those of the machine's own apt configuration.

mod sources;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::process;
pub(crate) use sources::Mirror;

/// The release that the guest is made of.
pub(crate) const GUEST: &str = "trixie";

/// How old package lists may be before they are asked for anew.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// What a stable release has beside it.
const MORE: &[&str] = &["-updates", "-backports"];

/// A private apt for one release and its backports.
pub(crate) struct Apt {
    release: String,
    configuration: PathBuf,
}

impl Apt {
    /// Packages that run on this machine: of its own release, without those it already has.
    pub(crate) fn host(cache: &Cache) -> Result<Self> {
        let mirror = Mirror::of_this_machine()?;
        let release = mirror.release.clone();
        Self::open(cache, &mirror, (&release, MORE), Path::new("/var/lib/dpkg/status"))
    }

    /// Packages that run in the guest.
    pub(crate) fn guest(cache: &Cache) -> Result<Self> {
        let mirror = Mirror::of_this_machine()?;
        let status = cache.workspace("apt")?.join("nothing-installed");
        fs::write(&status, "")?;
        Self::open(cache, &mirror, (GUEST, MORE), &status)
    }

    /// Packages of another release, as they are: what they need is not looked for.
    pub(crate) fn of(cache: &Cache, mirror: &Mirror, release: &str) -> Result<Self> {
        Self::open(cache, mirror, (release, &[]), Path::new("/var/lib/dpkg/status"))
    }

    fn open(cache: &Cache, mirror: &Mirror, (release, more): (&str, &[&str]), status: &Path) -> Result<Self> {
        for tool in ["apt-get", "apt-cache", "dpkg-deb"] {
            process::find(tool).context("the virtual machine is made of Debian packages")?;
        }
        let _lock = cache.lock(&format!("apt-{release}"))?;
        let home = cache.workspace(&format!("apt/{release}"))?;
        for folder in ["lists/partial", "archives/partial", "state"] {
            fs::create_dir_all(home.join(folder))?;
        }
        let suites = [""].iter().chain(more);
        let suites = suites.map(|more| format!("{release}{more}"));
        let lines = suites.map(|suite| mirror.line(&suite)).collect::<Vec<_>>().join("\n");
        fs::write(home.join("sources.list"), lines + "\n")?;
        let apt = Self { release: release.to_owned(), configuration: home.join("apt.conf") };
        fs::write(&apt.configuration, configuration(&home, status))?;
        apt.update(&home)?;
        Ok(apt)
    }

    fn update(&self, home: &Path) -> Result<()> {
        let stamp = home.join("updated");
        let age = fs::metadata(&stamp).and_then(|data| data.modified()).ok().map(|time| time.elapsed());
        if age.as_ref().is_some_and(|age| age.as_ref().is_ok_and(|age| *age < STALE)) {
            return Ok(());
        }
        eprintln!("packages: asking for the package lists of {} (about 10 s)", self.release);
        let asked = process::quiet(self.command("apt-get").args(["--error-on=any", "update"]));
        match asked {
            Ok(()) => fs::write(&stamp, "").context("cannot note when the package lists were fetched"),
            Err(error) if age.is_some() => {
                eprintln!("packages: keeping the package lists of an earlier day: {error}");
                Ok(())
            }
            Err(error) => {
                Err(error.context("no package lists: this first run needs the machine's Debian mirror"))
            }
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // Messages are read by us, so they are English.
        command
            .arg("-c")
            .arg(&self.configuration)
            .env("LC_ALL", "C.UTF-8")
            .env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    /// The names of all packages that begin with `prefix`.
    pub(crate) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let listed = process::output(self.command("apt-cache").args(["pkgnames", prefix]))?;
        Ok(String::from_utf8_lossy(&listed).lines().map(str::to_owned).collect())
    }

    /// Fetches exactly these packages and unpacks them into `to`.
    pub(crate) fn unpack(&self, packages: &[impl AsRef<str>], to: &Path) -> Result<()> {
        let archives = tempfile::tempdir_in(to)?;
        let mut download = self.command("apt-get");
        download.current_dir(archives.path()).arg("download");
        process::quiet(download.args(packages.iter().map(AsRef::as_ref)))?;
        extract(archives.path(), to)
    }

    /// Fetches these packages with everything they need that this machine lacks, and unpacks all into `to`.
    /// With `backports` the newer versions are preferred.
    pub(crate) fn unpack_closure(&self, packages: &[&str], backports: bool, to: &Path) -> Result<()> {
        let archives = tempfile::tempdir_in(to)?;
        fs::create_dir(archives.path().join("partial"))?;
        let mut download = self.command("apt-get");
        download.arg("-o").arg(format!("Dir::Cache::Archives={}", archives.path().display()));
        download.args(["install", "--yes", "--download-only", "--no-install-recommends"]);
        if backports {
            download.arg("--target-release").arg(format!("{}-backports", self.release));
        }
        process::quiet(download.args(packages))?;
        extract(archives.path(), to)
    }
}

fn extract(archives: &Path, to: &Path) -> Result<()> {
    let mut unpacked = Vec::new();
    for entry in fs::read_dir(archives)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            process::quiet(Command::new("dpkg-deb").arg("-x").arg(&path).arg(to))?;
            unpacked.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    // What is in here, for a person who wonders later.
    unpacked.sort();
    fs::write(to.join("PACKAGES"), unpacked.join("\n") + "\n").context("cannot list what was unpacked")
}

/// Read after the machine's own configuration, so that its proxy stays and its hooks do not run.
fn configuration(home: &Path, status: &Path) -> String {
    let home = home.display();
    let status = status.display();
    format!(
        r##"Dir::Etc::SourceList "{home}/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State "{home}/state";
Dir::State::Lists "{home}/lists";
Dir::State::status "{status}";
Dir::Cache "{home}";
Dir::Cache::Archives "{home}/archives";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Sandbox::User "root";
APT::Keep-Downloaded-Packages "true";
Debug::NoLocking "true";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
"##
    )
}
