//! Real HTTP servers as their distributions ship them, none configured for observability.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::install;
use crate::mix::{Kind, kind, of_apps};

/// A server that runs; ended when dropped.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: String,
    /// The name that the agent must give it.
    pub service: &'static str,
    /// What it can be asked.
    pub mix: Vec<Kind>,
    /// Its access log, where it keeps one with microseconds.
    pub access_log: Option<PathBuf>,
    process: Child,
    directory: PathBuf,
}

/// Starts a server in a directory of its own.
pub type Starter = fn(&Path) -> Result<Server>;

/// Every kind of server, by name.
pub const ALL: &[(&str, Starter)] = &[
    ("nginx", nginx),
    ("apache", apache),
    ("python", python),
    ("gunicorn", gunicorn),
    ("uvicorn", uvicorn),
    ("node", node),
    ("java", java),
    ("go", go),
];

impl Server {
    /// Starts a command that will listen at `address`, and waits until it does.
    pub fn start(
        directory: &Path,
        address: String,
        service: &'static str,
        mix: Vec<Kind>,
        command: &mut Command,
    ) -> Result<Self> {
        let log = File::create(directory.join("server.log"))?;
        let process = command
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {service}"))?;
        let directory = directory.to_owned();
        let mut server = Self {
            address,
            service,
            mix,
            access_log: None,
            process,
            directory,
        };
        server.wait_listening()?;
        Ok(server)
    }

    fn wait_listening(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(&self.address).is_err() {
            let ended = self.process.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let log = std::fs::read_to_string(self.directory.join("server.log"));
                bail!(
                    "{} does not listen: {}",
                    self.service,
                    log.unwrap_or_default().trim()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The process that was started; it may have children.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Asks it to end and waits.
    pub fn stop(&mut self) {
        let pid = i32::try_from(self.process.id())
            .ok()
            .and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // One that is gone already is as good.
            kill_process(pid, Signal::TERM).ok();
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline && matches!(self.process.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// An address nobody listens on at the moment.
pub fn free_address() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").context("looking for a free port")?;
    Ok(listener.local_addr()?.to_string())
}

fn installed(program: &str) -> Result<PathBuf> {
    install::on_path(program).with_context(|| format!("{program} is not installed"))
}

/// A directory of plain files; nginx and Apache serve from it.
fn documents(directory: &Path) -> Result<PathBuf> {
    let root = directory.join("documents");
    std::fs::create_dir_all(&root)?;
    std::fs::write(root.join("ok"), "fine\n")?;
    std::fs::write(root.join("item"), "an item\n")?;
    std::fs::write(root.join("big"), vec![b'z'; 1_000_000])?;
    open_to_all(directory)?;
    Ok(root)
}

/// Workers of these servers run under another user.
fn open_to_all(directory: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut next = Some(directory);
    while let Some(path) = next.filter(|path| path.starts_with(std::env::temp_dir())) {
        if path != std::env::temp_dir() {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
        }
        next = path.parent();
    }
    Ok(())
}

fn of_files() -> Vec<Kind> {
    vec![
        kind("GET", "/ok", "/ok", 200, 0),
        kind("GET", "/items/17", "/items/{id}", 200, 0),
        kind("HEAD", "/ok", "/ok", 200, 0),
        kind("GET", "/big", "/big", 200, 0),
        kind("GET", "/missing", "/**", 404, 0),
        kind("GET", "/moved", "/moved", 301, 0),
        kind("GET", "/fail", "/fail", 500, 0),
        kind("GET", "/busy", "/busy", 503, 0),
        kind("GET", "/ok?q=a", "/ok", 200, 0),
    ]
}

/// nginx with one worker, serving files by sendfile.
pub fn nginx(directory: &Path) -> Result<Server> {
    nginx_with(directory, "access_log off;", 1)
}

/// The same with as many workers as wanted and a line of its own for the access log.
pub fn nginx_with(directory: &Path, access_log: &str, workers: usize) -> Result<Server> {
    let address = free_address()?;
    let root = documents(directory)?;
    let here = directory.display();
    let configuration = format!(
        "daemon off; worker_processes {workers}; pid {here}/nginx.pid; error_log {here}/error.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ {access_log} sendfile on; keepalive_requests 1000000; client_body_temp_path {here}/body;\n\
           proxy_temp_path {here}/proxy; fastcgi_temp_path {here}/fastcgi; uwsgi_temp_path {here}/uwsgi;\n\
           scgi_temp_path {here}/scgi;\n\
           server {{ listen {address}; root {};\n\
             location /items/ {{ try_files /item =404; }}\n\
             location = /moved {{ return 301 /ok; }}\n\
             location = /fail {{ return 500; }}\n\
             location = /busy {{ return 503; }} }} }}\n",
        root.display()
    );
    nginx_configured(directory, address, &configuration, of_files())
}

/// nginx with a configuration of the caller's own, in the foreground.
pub fn nginx_configured(
    directory: &Path,
    address: String,
    configuration: &str,
    kinds: Vec<Kind>,
) -> Result<Server> {
    let file = directory.join("nginx.conf");
    std::fs::write(&file, configuration)?;
    let mut command = Command::new(installed("nginx")?);
    command
        .arg("-c")
        .arg(&file)
        .arg("-e")
        .arg(directory.join("error.log"));
    Server::start(directory, address, "nginx", kinds, &mut command)
}

/// Apache with its event module.
pub fn apache(directory: &Path) -> Result<Server> {
    let program = installed("apache2")?;
    let address = free_address()?;
    let root = documents(directory)?;
    let here = directory.display();
    let mut modules = String::new();
    for module in ["mpm_event", "authz_core", "alias"] {
        let path = format!("/usr/lib/apache2/modules/mod_{module}.so");
        modules.extend(["LoadModule ", module, "_module ", &path, "\n"]);
    }
    let configuration = format!(
        "ServerRoot {here}\nServerName shop.test\nListen {address}\nPidFile {here}/apache.pid\n\
         User www-data\nGroup www-data\nDefaultRuntimeDir {here}\n{modules}\
         MaxKeepAliveRequests 0\nKeepAliveTimeout 60\nDocumentRoot {root}\nErrorLog {here}/error.log\n\
         LogFormat \"%m %U %s %D\" micros\nCustomLog {here}/access.log micros\n\
         AliasMatch \"^/items/.*\" \"{root}/item\"\nRedirect 301 /moved /ok\nRedirect 500 /fail\nRedirect 503 /busy\n\
         <Directory {root}>\nRequire all granted\n</Directory>\n",
        root = root.display()
    );
    let file = directory.join("apache.conf");
    std::fs::write(&file, configuration)?;
    let mut command = Command::new(program);
    command.arg("-f").arg(&file).args(["-D", "FOREGROUND"]);
    let mut server = Server::start(directory, address, "apache2", of_files(), &mut command)?;
    server.access_log = Some(directory.join("access.log"));
    Ok(server)
}

/// `HAProxy` in front of another server.
pub fn haproxy(directory: &Path, behind: &Server) -> Result<Server> {
    let program = installed("haproxy")?;
    let address = free_address()?;
    let configuration = format!(
        "defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
         frontend shop\n  bind {address}\n  default_backend files\n\
         backend files\n  server one {}\n",
        behind.address
    );
    let file = directory.join("haproxy.cfg");
    std::fs::write(&file, configuration)?;
    let mut command = Command::new(program);
    command.arg("-f").arg(&file);
    Server::start(
        directory,
        address,
        "haproxy",
        behind.mix.clone(),
        &mut command,
    )
}

/// The standard library's `http.server`.
pub fn python(directory: &Path) -> Result<Server> {
    let address = free_address()?;
    let mut command = Command::new(installed("python3")?);
    command
        .arg(install::apps().join("python/shop_plain.py"))
        .arg(&address);
    Server::start(directory, address, "shop_plain", of_apps(), &mut command)
}

/// gunicorn with two workers.
pub fn gunicorn(directory: &Path) -> Result<Server> {
    let address = free_address()?;
    let mut command = Command::new(install::python_environment()?.join("bin/gunicorn"));
    command
        .args([
            "--workers",
            "2",
            "--worker-class",
            "gthread",
            "--threads",
            "2",
            "--bind",
            &address,
        ])
        .arg("--chdir")
        .arg(install::apps().join("python"))
        .arg("shop_wsgi:app");
    Server::start(directory, address, "shop_wsgi", of_apps(), &mut command)
}

/// uvicorn.
pub fn uvicorn(directory: &Path) -> Result<Server> {
    let address = free_address()?;
    let (host, port) = address.split_once(':').context("an address has a port")?;
    let mut command = Command::new(install::python_environment()?.join("bin/uvicorn"));
    command
        .args([
            "--host",
            host,
            "--port",
            port,
            "--log-level",
            "warning",
            "--app-dir",
        ])
        .arg(install::apps().join("python"))
        .arg("shop_asgi:app");
    Server::start(
        directory,
        address.clone(),
        "shop_asgi",
        of_apps(),
        &mut command,
    )
}

/// Node's `http` module.
pub fn node(directory: &Path) -> Result<Server> {
    let address = free_address()?;
    let mut command = Command::new(installed("node")?);
    command
        .arg(install::apps().join("node/shop_node.js"))
        .arg(&address);
    Server::start(directory, address, "shop_node", of_apps(), &mut command)
}

/// The JDK's `HttpServer`, started from its source.
pub fn java(directory: &Path) -> Result<Server> {
    let address = free_address()?;
    let mut command = Command::new(installed("java")?);
    command
        .arg(install::apps().join("java/ShopJava.java"))
        .arg(&address);
    Server::start(directory, address, "ShopJava", of_apps(), &mut command)
}

/// Go's `net/http`.
pub fn go(directory: &Path) -> Result<Server> {
    let address = free_address()?;
    let mut command = Command::new(install::go_programs()?.join("shop-go"));
    command.arg(&address);
    Server::start(directory, address, "shop-go", of_apps(), &mut command)
}
