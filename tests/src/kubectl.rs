//! kubectl, unmodified, as a user runs it.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::TestCluster;

/// What a command left behind.
#[derive(Debug)]
pub struct Output {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl TestCluster {
    /// Runs that kubectl from now on.
    pub fn use_kubectl(&mut self, kubectl: PathBuf) {
        self.kubectl = kubectl;
    }

    fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut command = xtask::run::command(&self.kubectl);
        command.args(arguments).env("KUBECONFIG", self.config.kubeconfig()).env("HOME", &self.config.dir);
        command.current_dir(&self.config.dir);
        command
    }

    /// Runs kubectl, with `input` on standard input.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn kubectl_with(&self, arguments: &[&str], input: &str) -> Result<Output> {
        self.kubectl_in(&[], arguments, input)
    }

    /// As [`TestCluster::kubectl_with`], with these variables in kubectl's environment.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn kubectl_in(
        &self,
        environment: &[(&str, &str)],
        arguments: &[&str],
        input: &str,
    ) -> Result<Output> {
        let mut command = self.kubectl_command(arguments);
        command.envs(environment.iter().copied());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("kubectl")?;
        let mut stdin = child.stdin.take().context("stdin")?;
        let input = input.to_owned();
        // Beside reading: kubectl may answer before it has read everything. One that ends early stops the writing.
        let typing = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output()?;
        let _ = typing.join();
        Ok(Output {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs kubectl, which must succeed without a word on standard error; gives its standard output.
    ///
    /// # Errors
    /// When it fails, or warns.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_input(arguments, "")
    }

    /// [`TestCluster::kubectl`] with `input` on standard input.
    ///
    /// # Errors
    /// When it fails, or warns.
    pub fn kubectl_input(&self, arguments: &[&str], input: &str) -> Result<String> {
        let output = self.kubectl_with(arguments, input)?;
        let what = arguments.join(" ");
        ensure!(output.code == Some(0), "kubectl {what}: {output:#?}");
        ensure!(output.stderr.is_empty(), "kubectl {what} warned: {}", output.stderr);
        Ok(output.stdout)
    }

    /// `kubectl apply -f -` of an object.
    ///
    /// # Errors
    /// When it fails, or warns.
    pub fn apply(&self, object: &Value) -> Result<String> {
        self.kubectl_input(&["apply", "-f", "-"], &object.to_string())
    }

    /// Starts kubectl in the background with its output in `file` of the cluster's directory.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn kubectl_background(&self, arguments: &[&str], file: &str) -> Result<Child> {
        self.kubectl_background_in(&[], arguments, file)
    }

    /// As [`TestCluster::kubectl_background`], with these variables in kubectl's environment.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn kubectl_background_in(
        &self,
        environment: &[(&str, &str)],
        arguments: &[&str],
        file: &str,
    ) -> Result<Child> {
        let out = File::create(self.config.dir.join(file))?;
        let errors = File::create(self.config.dir.join(format!("{file}.err")))?;
        self.kubectl_command(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(errors)
            .spawn()
            .context("kubectl")
    }

    /// Runs kubectl on a terminal (script(1) provides it) with `input` typed; gives all that the terminal showed.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn kubectl_terminal(&self, arguments: &[&str], input: &str) -> Result<Output> {
        let words: Vec<String> = [self.kubectl.display().to_string()]
            .into_iter()
            .chain(arguments.iter().map(|&word| word.to_owned()))
            .collect();
        let line = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
        let mut script = self.kubectl_command(&[]);
        let environment: Vec<_> =
            script.get_envs().map(|(k, v)| (k.to_owned(), v.map(ToOwned::to_owned))).collect();
        script = Command::new("script");
        for (name, value) in environment {
            match value {
                Some(value) => script.env(name, value),
                None => script.env_remove(name),
            };
        }
        script.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env("TERM", "xterm");
        let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut typed = child.stdin.take().context("stdin")?;
        for key in input.lines() {
            // A person types when the prompt is there; what is typed too early may be lost with the terminal's mode change.
            std::thread::sleep(std::time::Duration::from_millis(700));
            writeln!(typed, "{key}")?;
        }
        let output = child.wait_with_output()?;
        drop(typed);
        Ok(Output {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}
