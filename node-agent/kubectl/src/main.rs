//! kubectl-skep: what kubectl has no verb for. In the `PATH`, kubectl runs it as `kubectl skep`.

mod render;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use futures::StreamExt as _;
use http::Method;
use render::Answer;
use skep_client::{Client, Collection, Config, HttpClient, ListOptions};
use skep_observe::NodeReport;
use std::path::PathBuf;

/// So many nodes are asked at a time.
const AT_ONCE: usize = 16;

/// What kubectl has no verb for, in a Skep cluster.
#[derive(Debug, Parser)]
#[command(name = "kubectl skep", bin_name = "kubectl skep", version)]
struct Flags {
    /// Path of the kubeconfig; $KUBECONFIG (its first file) or ~/.kube/config by default. Its current context is used.
    #[arg(long, global = true)]
    kubeconfig: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows what is loaded and in force on each node: programs, how full the maps are, the last synchronization, and what
    /// could not be applied. Asks the nodes by way of the API server, which takes the right to get nodes/proxy (and to list
    /// nodes, unless they are named).
    Status {
        /// Names of nodes; all by default.
        nodes: Vec<String>,
        /// How to show it.
        #[arg(short, long, default_value = "table")]
        output: Output,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Tables for people.
    Table,
    /// A list of what each node said.
    Json,
}

fn main() -> Result<()> {
    let flags = Flags::parse();
    let Command::Status { nodes, output } = flags.command;
    let path =
        flags.kubeconfig.or_else(kubeconfig).context("there is no kubeconfig: name one by --kubeconfig")?;
    let client = HttpClient::new(&Config::from_file(&path)?, "kubectl-skep")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answers = runtime.block_on(ask(&client, nodes))?;
    match output {
        Output::Table => print!("{}", render::tables(&answers)),
        Output::Json => println!("{:#}", render::json(&answers)),
    }
    let silent = answers.iter().filter(|answer| answer.report.is_err()).count();
    if silent > 0 {
        bail!("{silent} of {} nodes could not be asked", answers.len());
    }
    Ok(())
}

/// Where kubectl itself would look.
fn kubeconfig() -> Option<PathBuf> {
    let named = std::env::var_os("KUBECONFIG").and_then(|list| std::env::split_paths(&list).next());
    let named = named.filter(|path| !path.as_os_str().is_empty());
    named.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".kube/config")))
}

/// What each node says, in the order of the names; all nodes where none is named.
async fn ask(client: &HttpClient, mut nodes: Vec<String>) -> Result<Vec<Answer>> {
    if nodes.is_empty() {
        let list = client.list(&Collection::core("nodes"), &ListOptions::default()).await;
        let list = list.map_err(|status| anyhow::anyhow!("nodes cannot be listed: {}", status.message))?;
        nodes = list.items.iter().map(|node| node.meta().name.to_string()).collect();
    }
    nodes.sort();
    nodes.dedup();
    let asked = futures::stream::iter(nodes).map(|node| async move {
        let path = format!("{}/skep/status", Collection::core("nodes").object(&*node).sub("proxy").path());
        let said = client.json(Method::GET, &path, "", None).await.map_err(|status| status.message);
        let report = said.and_then(|said| {
            serde_json::from_value::<NodeReport>(said)
                .map_err(|e| format!("its agent says something else: {e}"))
        });
        Answer { node, report }
    });
    Ok(asked.buffered(AT_ONCE).collect().await)
}
