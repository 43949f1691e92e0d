//! Ways into a pod by an unmodified kubectl: port-forward, exec and attach over WebSocket and over SPDY, and the proxies.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use skep_tests::{TestCluster, objects};

/// What tells kubectl which protocol to ask for: its own choice (WebSocket), and that of versions before 1.31 (SPDY).
const PROTOCOLS: [(&str, &[(&str, &str)]); 2] = [
    ("websocket", &[]),
    ("spdy", &[("KUBECTL_PORT_FORWARD_WEBSOCKETS", "false"), ("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false")]),
];

#[test]
fn ways_into_a_pod() -> Result<()> {
    let cluster = TestCluster::start()?;
    cluster.serve("web", 1)?;
    let pods = cluster.pods_of("web")?;
    let pod = pods[0]["metadata"]["name"].as_str().context("a name")?;
    cluster.create("/api/v1/namespaces/default/pods", &{
        let mut shell = objects::pod("shell", &["shell"], "Never");
        shell["spec"]["containers"][0]["stdin"] = true.into();
        // Without it the runtime lets go of the output as soon as the client's input ends.
        shell["spec"]["containers"][0]["stdinOnce"] = true.into();
        shell
    })?;
    for (name, environment) in PROTOCOLS {
        forward(&cluster, pod, name, environment).with_context(|| format!("port-forward over {name}"))?;
        commands(&cluster, pod, environment).with_context(|| format!("exec over {name}"))?;
    }
    attach(&cluster)?;
    older_websockets(&cluster, pod)?;
    proxies(&cluster, pod)?;
    nodes(&cluster)?;
    scrapers(&cluster)
}

/// A kubectl that is told to end with the test.
struct Forwarder(Child);

impl Forwarder {
    fn start(
        cluster: &TestCluster,
        pod: &str,
        port: u16,
        file: &str,
        environment: &[(&str, &str)],
    ) -> Result<(Self, u16)> {
        let ports = format!(":{port}");
        let child = cluster.kubectl_background_in(environment, &["port-forward", pod, &ports], file)?;
        let forwarder = Forwarder(child);
        let told = cluster.config.dir.join(file);
        let mut local = None;
        cluster.wait("kubectl to listen", || {
            let text = fs::read_to_string(&told).unwrap_or_default();
            let first = text.strip_prefix("Forwarding from 127.0.0.1:");
            local = first.and_then(|rest| rest.split_once(" -> ")?.0.parse().ok());
            local.is_some()
        })?;
        Ok((forwarder, local.context("a port")?))
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.0.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
        }
        let _ = self.0.wait();
    }
}

fn ask(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n")?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn forward(cluster: &TestCluster, pod: &str, name: &str, environment: &[(&str, &str)]) -> Result<()> {
    let (forwarder, local) = Forwarder::start(cluster, pod, 8080, &format!("forward-{name}"), environment)?;
    // Several connections share the one to the server; each half closes after its question.
    let asked: Vec<_> = (0..12).map(|_| std::thread::spawn(move || ask(local, "/"))).collect();
    for one in asked {
        let answer = one.join().map_err(|_| anyhow::anyhow!("a panic"))??;
        ensure!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(&format!("{pod}\n")), "{answer}");
    }
    drop(forwarder);
    ensure!(TcpStream::connect((Ipv4Addr::LOCALHOST, local)).is_err(), "kubectl listens on");

    // A port where nobody listens: the connection ends, and kubectl says why.
    let (forwarder, local) = Forwarder::start(cluster, pod, 9, &format!("refused-{name}"), environment)?;
    ensure!(ask(local, "/").unwrap_or_default().is_empty(), "an answer from nobody");
    let errors = cluster.config.dir.join(format!("refused-{name}.err"));
    cluster
        .wait("kubectl to say why", || fs::read_to_string(&errors).unwrap_or_default().contains("refused"))?;
    drop(forwarder);
    Ok(())
}

fn commands(cluster: &TestCluster, pod: &str, environment: &[(&str, &str)]) -> Result<()> {
    let exec = |flags: &[&str], command: &[&str], input: &str| {
        let arguments = [&["exec"], flags, &[pod, "--", "/skep-demo"], command].concat();
        cluster.kubectl_in(environment, &arguments, input)
    };
    let got = exec(&[], &["get", "127.0.0.1:8080"], "")?;
    assert_eq!((got.code, got.stdout), (Some(0), format!("{pod}\n")), "{}", got.stderr);
    let got = exec(&["-i"], &["shell"], "echo piped\nexit\n")?;
    assert_eq!((got.code, got.stdout.as_str()), (Some(0), "demo$ piped\ndemo$ "), "{}", got.stderr);
    // The end of standard input reaches the command.
    let got = exec(&["-i"], &["shell"], "echo last\n")?;
    assert_eq!((got.code, got.stdout.as_str()), (Some(0), "demo$ last\ndemo$ "), "{}", got.stderr);
    let got = exec(&[], &["exit", "7"], "")?;
    assert_eq!((got.code, got.stdout.as_str()), (Some(7), ""), "{}", got.stderr);
    // More than any buffer on the way holds, out and back.
    let word = "x".repeat(1 << 16);
    let much: String = (0..64).map(|_| format!("echo {word}\n")).collect();
    let got = exec(&["-i"], &["shell"], &much)?;
    assert_eq!((got.code, got.stdout.len()), (Some(0), 64 * ((1 << 16) + 7) + 6), "{}", got.stderr);
    let got = exec(&["-c", "nobody"], &["exit", "0"], "")?;
    assert_eq!(got.code, Some(1));
    assert!(got.stderr.contains("container nobody is not valid for pod"), "{}", got.stderr);
    Ok(())
}

fn attach(cluster: &TestCluster) -> Result<()> {
    let running = "/api/v1/namespaces/default/pods/shell";
    cluster.wait("the shell to run", || {
        let pod = cluster.api.get(running).and_then(|answer| answer.success());
        pod.is_ok_and(|pod| pod["status"]["phase"] == "Running")
    })?;
    let got = cluster.kubectl_in(&[], &["attach", "-i", "shell"], "echo attached\n")?;
    assert!(got.stdout.contains("attached"), "{got:?}");
    Ok(())
}

/// A WebSocket through `kubectl proxy`, by hand: the protocols that kubectl itself does not ask for.
struct Socket(TcpStream);

impl Socket {
    fn open(port: u16, path: &str, protocol: &str) -> Result<Self> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
             Sec-WebSocket-Protocol: {protocol}\r\n\r\n"
        )?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head)?.to_ascii_lowercase();
        ensure!(head.starts_with("http/1.1 101") && head.contains(protocol), "{head}");
        Ok(Socket(stream))
    }

    /// The next message; none after a farewell or the end.
    fn message(&mut self) -> Result<Option<Vec<u8>>> {
        let mut head = [0; 2];
        if self.0.read_exact(&mut head).is_err() {
            return Ok(None);
        }
        let length = match head[1] & 0x7f {
            126 => {
                let mut length = [0; 2];
                self.0.read_exact(&mut length)?;
                usize::from(u16::from_be_bytes(length))
            }
            short => usize::from(short),
        };
        let mut message = vec![0; length];
        self.0.read_exact(&mut message)?;
        Ok((head[0] & 0xf != 8).then_some(message))
    }

    fn send(&mut self, message: &[u8]) -> Result<()> {
        let length = u8::try_from(message.len()).ok().filter(|n| *n < 126).context("short ones only")?;
        // Masked with zeros, which is masked all the same.
        self.0.write_all(&[&[0x82, 0x80 | length, 0, 0, 0, 0], message].concat())?;
        Ok(())
    }
}

fn older_websockets(cluster: &TestCluster, pod: &str) -> Result<()> {
    let child = cluster.kubectl_background(&["proxy", "--port=0", "--disable-filter"], "proxy")?;
    let proxy = Forwarder(child);
    let told = cluster.config.dir.join("proxy");
    let mut port = None;
    cluster.wait("kubectl proxy to listen", || {
        let text = fs::read_to_string(&told).unwrap_or_default();
        port = text.lines().find_map(|line| line.rsplit_once("127.0.0.1:")?.1.trim().parse::<u16>().ok());
        port.is_some()
    })?;
    let port = port.context("a port")?;
    let base = format!("/api/v1/namespaces/default/pods/{pod}");

    let command =
        "exec?stdout=1&stderr=1&container=demo&command=%2Fskep-demo&command=get&command=127.0.0.1:8080";
    for protocol in ["channel.k8s.io", "v4.channel.k8s.io"] {
        let mut socket = Socket::open(port, &format!("{base}/{command}"), protocol)?;
        let mut said = Vec::new();
        while let Some(message) = socket.message()? {
            if message.first() == Some(&1) {
                said.extend_from_slice(&message[1..]);
            }
        }
        assert_eq!(String::from_utf8(said)?, format!("{pod}\n"), "{protocol}");
    }

    let mut socket = Socket::open(port, &format!("{base}/portforward?ports=8080"), "v4.channel.k8s.io")?;
    for channel in [0, 1] {
        assert_eq!(socket.message()?, Some(vec![channel, 0x90, 0x1f]), "its port, low byte first");
    }
    socket.send(b"\0GET / HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n")?;
    let mut said = Vec::new();
    while !said.ends_with(format!("{pod}\n").as_bytes()) {
        let message = socket.message()?.context("an answer")?;
        assert_eq!(message.first(), Some(&0), "{message:?}");
        said.extend_from_slice(&message[1..]);
    }

    let mut socket = Socket::open(port, &format!("{base}/log?container=demo"), "binary.k8s.io")?;
    let mut log = Vec::new();
    while let Some(message) = socket.message()? {
        log.extend_from_slice(&message);
    }
    assert_eq!(String::from_utf8(log)?, cluster.kubectl(&["logs", pod])?);
    drop(proxy);
    Ok(())
}

fn proxies(cluster: &TestCluster, pod: &str) -> Result<()> {
    let raw = |path: &str| cluster.kubectl(&["get", "--raw", &format!("/api/v1/namespaces/default/{path}")]);
    for path in [
        format!("pods/{pod}:8080/proxy/"),
        format!("pods/http:{pod}:8080/proxy/"),
        format!("pods/{pod}/proxy/"),
        "services/web:http/proxy/".to_owned(),
        "services/web:80/proxy/".to_owned(),
        "services/http:web:http/proxy/".to_owned(),
    ] {
        assert_eq!(raw(&path)?, format!("{pod}\n"), "{path}");
    }
    assert_eq!(raw(&format!("pods/{pod}:8080/proxy/healthz"))?, "ok\n");
    let refused = |path: &str, code: u16, why: &str| -> Result<()> {
        let answer = cluster.api.get(&format!("/api/v1/namespaces/default/{path}"))?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        ensure!(answer.status == code && text.contains(why), "{path}: {} {text}", answer.status);
        Ok(())
    };
    refused("services/nobody:80/proxy/", 404, "not found")?;
    refused("services/web:81/proxy/", 503, "no service port 81 found for service")?;
    refused(&format!("pods/{pod}:9/proxy/"), 503, "error trying to reach service: dial tcp")?;
    refused("pods/a:b:c:d/proxy/", 400, "invalid pod request")
}

fn nodes(cluster: &TestCluster) -> Result<()> {
    let raw = |path: &str| cluster.kubectl(&["get", "--raw", &format!("/api/v1/nodes/{path}")]);
    let port = cluster.config.nodes[0].agent_port;
    for path in ["node-1/proxy/healthz".to_owned(), format!("node-1:{port}/proxy/healthz")] {
        assert_eq!(raw(&path)?, "ok", "{path}");
    }
    let pods: serde_json::Value = serde_json::from_str(&raw("node-1/proxy/pods")?)?;
    assert!(pods["items"].as_array().is_some_and(|items| items.len() >= 2), "{pods}");
    let summary: serde_json::Value = serde_json::from_str(&raw("node-1/proxy/stats/summary")?)?;
    let memory = &summary["node"]["memory"];
    assert!(memory["workingSetBytes"].as_u64() > Some(0), "{summary}");
    assert!(memory["availableBytes"].as_u64() > Some(0), "{summary}");
    let resource = raw("node-1/proxy/metrics/resource")?;
    for name in ["node_cpu_usage_seconds_total ", "pod_memory_working_set_bytes{", "resource_scrape_error 0"]
    {
        assert!(resource.contains(name), "{name} in {resource}");
    }
    let probes = raw("node-1/proxy/metrics/probes")?;
    assert!(
        probes.contains("prober_probe_total{") && probes.contains("probe_type=\"Readiness\""),
        "{probes}"
    );
    let config: serde_json::Value = serde_json::from_str(&raw("node-1/proxy/configz")?)?;
    assert_eq!(config["kubeletconfig"]["maxPods"], 110, "{config}");
    assert!(raw("node-1/proxy/logs/")?.contains("<pre>"));
    Ok(())
}

/// Who comes to the agent with a token gets what the API server says they may: monitoring does.
fn scrapers(cluster: &TestCluster) -> Result<()> {
    let token = cluster.kubectl(&["create", "token", "default"])?;
    let server = format!("--server=https://127.0.0.1:{}", cluster.config.nodes[0].agent_port);
    let ask = |token: &str, path: &str| {
        let token = format!("--token={token}");
        let flags = ["--kubeconfig=/dev/null", "--insecure-skip-tls-verify", &server, &token];
        cluster.kubectl_in(&[], &[&flags[..], &["get", "--raw", path]].concat(), "")
    };
    let who = "system:serviceaccount:default:default";
    let refused = ask(token.trim(), "/pods")?;
    let why = format!("Forbidden (user={who}, verb=get, resource=nodes, subresource(s)=[pods proxy])");
    assert!(refused.code == Some(1) && refused.stderr.contains(&why), "{refused:?}");
    let stranger = ask("nonsense", "/healthz")?;
    assert!(stranger.stderr.contains("You must be logged in to the server"), "{stranger:?}");
    cluster.kubectl(&["create", "clusterrole", "scraper", "--verb=get", "--resource=nodes/metrics"])?;
    cluster.kubectl(&[
        "create",
        "clusterrolebinding",
        "scraper",
        "--clusterrole=scraper",
        "--serviceaccount=default:default",
    ])?;
    let can_i = ["auth", "can-i", "get", "nodes", "--subresource=metrics", &format!("--as={who}"), "-q"];
    cluster.wait("the right to count", || {
        cluster.kubectl_with(&can_i, "").is_ok_and(|answer| answer.code == Some(0))
    })?;
    let scraped = ask(token.trim(), "/metrics/resource")?;
    assert!(scraped.stdout.contains("node_cpu_usage_seconds_total"), "{scraped:?}");
    Ok(())
}
