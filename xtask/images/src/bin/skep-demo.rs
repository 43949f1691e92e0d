//! The demo image's only program.

use std::io;
use std::net::{Ipv4Addr, ToSocketAddrs};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use skep_images::args::Args;
use skep_images::load::{self, Plan, Transport};
use skep_images::serve::{self, State};
use skep_images::{resolve, shell};

const USAGE: &str = "\
skep-demo: answers with the name of the pod it runs in, and counts who answers

  skep-demo serve [--port 8080] [--ready true] [--drain-ms 0]     HTTP and UDP echo; /, /healthz, /readyz, /ready/on, /ready/off, /counts, /peer, /whence
  skep-demo load HOST:PORT [--udp] [--unconnected] [--keep] [--path /] [--requests 100] [--concurrency 4] [--rate 0] [--timeout-ms 5000]
                 [--stay-ms 0]                                    one socket a request, or with --keep one a client; the counts as one line of JSON
  skep-demo lookups NAME [the options of load]                    the same for looking a name up
  skep-demo get HOST:PORT [PATH]                                  one GET; prints the body
  skep-demo resolve NAME... [--every-ms 0]                        the addresses of names, one line a name, for ever with --every-ms
  skep-demo log [--count 10] [--every-ms 100]                     numbered lines
  skep-demo shell                                                 a few interactive commands
  skep-demo sleep                                                 until SIGTERM
  skep-demo exit [CODE]                                           at once
";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let mode = words.next().unwrap_or_default();
    match Args::parse(words).and_then(|args| run(&mode, &args)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("skep-demo: {error}");
            ExitCode::from(2)
        }
    }
}

fn text(error: io::Error) -> String {
    error.to_string()
}

fn run(mode: &str, args: &Args) -> Result<ExitCode, String> {
    // The first process of a container has no default reaction to signals.
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(text)?;
    let drain = Duration::from_millis(args.get("drain-ms", 0)?);
    let ended = thread::spawn(move || {
        signals.forever().next();
        thread::sleep(drain);
        std::process::exit(0);
    });
    match mode {
        "serve" => {
            let name = std::env::var("POD_NAME").unwrap_or_else(|_| shell::hostname());
            let (tcp, udp) = serve::bind(args.get("port", 8080)?).map_err(text)?;
            println!("{name} serves on {}", tcp.local_addr().map_err(text)?);
            serve::run(&State::new(name, args.get("ready", true)?), &tcp, udp).map_err(text)?;
        }
        "load" | "lookups" => {
            let outcome = load::run(&plan(args, mode == "lookups")?);
            println!("{}", serde_json::to_string(&outcome).map_err(|error| error.to_string())?);
            thread::sleep(Duration::from_millis(args.get("stay-ms", 0)?));
            return Ok(if outcome.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        "get" => {
            let path = args.words.get(1).map_or("/", String::as_str);
            let timeout = Duration::from_millis(args.get("timeout-ms", 5000)?);
            let answer = load::get(target(args)?, path, timeout).map_err(text)?;
            print!("{}", answer.body);
            return Ok(if answer.status < 400 { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        "resolve" => {
            let every = Duration::from_millis(args.get("every-ms", 0)?);
            loop {
                args.words.iter().for_each(|name| println!("{}", resolve::line(name)));
                if every.is_zero() {
                    break;
                }
                thread::sleep(every);
            }
        }
        "log" => {
            for number in 0..args.get("count", 10u64)? {
                println!("line {number}");
                thread::sleep(Duration::from_millis(args.get("every-ms", 100)?));
            }
        }
        "shell" => {
            let code = shell::run(&mut io::stdin().lock(), &mut io::stdout().lock()).map_err(text)?;
            return Ok(ExitCode::from(code));
        }
        "sleep" => {
            let _ = ended.join();
        }
        "exit" => {
            return Ok(ExitCode::from(args.words.first().and_then(|code| code.parse().ok()).unwrap_or(0)));
        }
        _ => {
            eprint!("{USAGE}");
            return Ok(ExitCode::from(2));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn target(args: &Args) -> Result<std::net::SocketAddr, String> {
    let word = args.words.first().ok_or("which HOST:PORT?")?;
    word.to_socket_addrs().map_err(text)?.next().ok_or_else(|| format!("{word}: no address"))
}

fn plan(args: &Args, lookups: bool) -> Result<Plan, String> {
    let transport = match (args.has("udp"), args.has("unconnected")) {
        _ if lookups => Transport::Name,
        (false, _) => Transport::Tcp,
        (true, false) => Transport::Udp,
        (true, true) => Transport::UdpUnconnected,
    };
    let name = args.words.first().cloned().unwrap_or_default();
    Ok(Plan {
        target: if lookups { (Ipv4Addr::UNSPECIFIED, 0).into() } else { target(args)? },
        name,
        path: args.get("path", "/".to_owned())?,
        keep: args.has("keep"),
        transport,
        requests: args.get("requests", 100)?,
        concurrency: args.get("concurrency", 4)?,
        rate: args.get("rate", 0)?,
        timeout: Duration::from_millis(args.get("timeout-ms", 5000)?),
    })
}
