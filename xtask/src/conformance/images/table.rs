//! What is in each image that the suite of Kubernetes 1.36 asks for (its `test/utils/image/manifest.go`), as data.
//!
//! The suite's own programs come from a folder, the rest from packages of the distribution; the layout imitates what
//! the tests expect of the original images, which are Alpine's or BusyBox's.

/// An image, by all the names it is asked for.
pub(super) struct Picture {
    /// Repository, without the registry's part that all share.
    pub repository: &'static str,
    /// Tags.
    pub tags: &'static [&'static str],
    /// Whether it has the common userland: BusyBox, with bash as the shell.
    pub userland: bool,
    /// What it has beside.
    pub content: &'static [Content],
    /// Entry point.
    pub entrypoint: &'static [&'static str],
    /// Default arguments.
    pub cmd: &'static [&'static str],
    /// User, or empty for root.
    pub user: &'static str,
}

/// A file, link or folder of an image.
pub(super) enum Content {
    /// A program of the suite and where it goes, with its mode.
    Program(&'static str, &'static str, u32),
    /// A file of a package and where it goes; with the libraries it needs.
    Package(&'static str, &'static str),
    /// A folder of a package.
    Folder(&'static str, &'static str),
    /// A file of this machine, with the libraries it needs.
    Machine(&'static str, &'static str),
    /// A text, appended where the file is there already.
    Text(&'static str, &'static str),
    /// A symbolic link and where it leads.
    Link(&'static str, &'static str),
    /// A folder.
    Empty(&'static str),
    /// A certificate for `localhost` with its key: the paths of both.
    Certificate(&'static str, &'static str),
}

/// Packages that [`Content::Package`] takes files from, with those whose libraries these need.
pub(super) const PACKAGES: &[&str] = &[
    "bash",
    "bind9-dnsutils",
    "bind9-host",
    "bind9-libs",
    "busybox-static",
    "curl",
    "hostname",
    "iperf",
    "iproute2",
    "libbpf1",
    "libbrotli1",
    "libbsd0",
    "libcap2",
    "libcurl4",
    "libdb5.3",
    "libedit2",
    "libelf1",
    "libfstrm0",
    "libicu72",
    "libjemalloc2",
    "libjson-c5",
    "liblmdb0",
    "libmaxminddb0",
    "libmd0",
    "libmnl0",
    "libnghttp2-14",
    "libprotobuf-c1",
    "libpsl5",
    "librtmp1",
    "libssh2-1",
    "libtirpc3",
    "libuv1",
    "libwrap0",
    "libxml2",
    "libxtables12",
    "netcat-openbsd",
    "nginx",
    "nginx-common",
    "perl-base",
    "socat",
    "stress",
    "util-linux",
];

/// The registry's part of most names.
pub(super) const REGISTRY: &str = "registry.k8s.io/e2e-test-images/";

use Content::{Certificate, Empty, Folder, Link, Machine, Package, Program, Text};

const fn picture(repository: &'static str, tags: &'static [&'static str]) -> Picture {
    Picture { repository, tags, userland: true, content: &[], entrypoint: &[], cmd: &[], user: "" }
}

/// What everything around `agnhost` has: its own program and what Alpine's packages give there.
const AGNHOST: &[Content] = &[
    Program("agnhost", "/agnhost", 0o755),
    Link("/agnhost-2", "agnhost"),
    Package("usr/bin/dig", "/usr/bin/dig"),
    Package("usr/bin/host", "/usr/bin/host"),
    Package("usr/bin/curl", "/usr/bin/curl"),
    Package("usr/bin/iperf", "/usr/bin/iperf"),
    Package("usr/bin/ipcs", "/usr/bin/ipcs"),
    Package("bin/ss", "/usr/sbin/ss"),
    Package("bin/ip", "/usr/sbin/ip"),
    Package("bin/nc.openbsd", "/usr/bin/nc"),
    Machine("/usr/bin/getent", "/usr/bin/getent"),
    Link("/usr/local/bin/iperf", "/usr/bin/iperf"),
    Link("/bin/nc", "/usr/bin/nc"),
    Link("/bin/ip", "/usr/sbin/ip"),
    Empty("/uploads"),
    Empty("/var/registry"),
    Empty("/home/user-defined-in-image"),
    Certificate("/localhost.crt", "/localhost.key"),
    Text(
        "/etc/passwd",
        "user-defined-in-image:x:1000:1000:Linux User,,,:/home/user-defined-in-image:/bin/sh\n",
    ),
    Text(
        "/etc/group",
        "user-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n",
    ),
];

const NGINX_CONF: &str = "\
user nobody nogroup; worker_processes 1; pid /run/nginx.pid; error_log /dev/stderr warn;
events { worker_connections 256; }
http { include mime.types; access_log /dev/stdout; server { listen 80; location / { root /usr/share/nginx/html; index index.html; } } }
";

/// The images.
pub(super) const PICTURES: &[Picture] = &[
    Picture {
        userland: false,
        content: &[Program("pause", "/pause", 0o755)],
        entrypoint: &["/pause"],
        user: "65535:65535",
        ..picture("registry.k8s.io/pause", &["3.10.2"])
    },
    Picture {
        // A test knows what BusyBox' own shell says when a file cannot be written; those that show an environment name
        // the shell without its folder, and the distribution's BusyBox leaves variables out whose names have a dash.
        content: &[Link("/bin/sh", "busybox"), Link("/usr/bin/sh", "/bin/bash")],
        cmd: &["sh"],
        ..picture("busybox", &["1.37.0-1", "1.36.1-1"])
    },
    Picture {
        content: AGNHOST,
        entrypoint: &["/agnhost"],
        cmd: &["pause"],
        ..picture("agnhost", &["2.63.0", "2.55"])
    },
    Picture {
        content: AGNHOST,
        entrypoint: &["/agnhost"],
        cmd: &["pause"],
        user: "1234",
        ..picture("nonroot", &["1.5"])
    },
    Picture {
        content: &[
            Program("agnhost", "/agnhost", 0o755),
            Text("/data.json", "{\"image\": \"nautilus.jpg\"}\n"),
            Text("/nautilus.jpg", "nautilus\n"),
        ],
        entrypoint: &["/agnhost"],
        cmd: &["test-webserver"],
        ..picture("nautilus", &["1.8"])
    },
    Picture {
        content: &[
            Program("agnhost", "/agnhost", 0o755),
            Text("/data.json", "{\"image\": \"kitten.jpg\"}\n"),
            Text("/kitten.jpg", "kitten\n"),
        ],
        entrypoint: &["/agnhost"],
        cmd: &["test-webserver"],
        ..picture("kitten", &["1.8"])
    },
    Picture {
        content: &[
            Package("usr/bin/dig", "/usr/bin/dig"),
            Package("usr/bin/nslookup", "/usr/bin/nslookup"),
            Package("usr/bin/host", "/usr/bin/host"),
            Package("bin/hostname", "/usr/bin/hostname"),
            Machine("/usr/bin/getent", "/usr/bin/getent"),
            // glibc loads these when a name is looked up; nothing links them.
            Machine("/usr/lib/x86_64-linux-gnu/libnss_dns.so.2", "/usr/lib/x86_64-linux-gnu/libnss_dns.so.2"),
            Machine(
                "/usr/lib/x86_64-linux-gnu/libnss_files.so.2",
                "/usr/lib/x86_64-linux-gnu/libnss_files.so.2",
            ),
            Machine("/usr/lib/x86_64-linux-gnu/libresolv.so.2", "/usr/lib/x86_64-linux-gnu/libresolv.so.2"),
        ],
        cmd: &["bash"],
        ..picture("glibc-dns-testing", &["2.0.0"])
    },
    Picture {
        content: &[
            Package("usr/sbin/nginx", "/usr/sbin/nginx"),
            Package("etc/nginx/mime.types", "/etc/nginx/mime.types"),
            Text("/etc/nginx/nginx.conf", NGINX_CONF),
            Text(
                "/usr/share/nginx/html/index.html",
                "<!DOCTYPE html><html><head><title>Welcome to nginx!</title></head><body><h1>Welcome to nginx!</h1></body></html>\n",
            ),
            Empty("/var/log/nginx"),
            Empty("/var/lib/nginx"),
            Empty("/var/cache/nginx"),
        ],
        cmd: &["nginx", "-g", "daemon off;"],
        ..picture("nginx", &["1.15-4", "1.27-0"])
    },
    Picture {
        content: &[
            Package("usr/bin/perl", "/usr/bin/perl"),
            Folder("usr/lib/x86_64-linux-gnu/perl-base", "/usr/lib/x86_64-linux-gnu/perl-base"),
        ],
        cmd: &["perl", "-de0"],
        ..picture("perl", &["5.26"])
    },
    Picture {
        content: &[Program("images/nonewprivs", "/usr/local/bin/nnp", 0o4755)],
        cmd: &["nnp"],
        ..picture("nonewprivs", &["1.4"])
    },
    Picture {
        content: &[Program("images/sample-apiserver", "/sample-apiserver", 0o755)],
        entrypoint: &["/sample-apiserver"],
        ..picture("sample-apiserver", &["1.29.2"])
    },
    Picture {
        content: &[
            Program("etcd", "/usr/local/bin/etcd", 0o755),
            Program("etcdctl", "/usr/local/bin/etcdctl", 0o755),
        ],
        ..picture("registry.k8s.io/etcd", &["3.6.8-0"])
    },
    Picture {
        content: &[
            Program("images/resource-consumer", "/consumer", 0o755),
            Program("images/consume-cpu", "/consume-cpu", 0o755),
            Package("usr/bin/stress", "/usr/bin/stress"),
            Empty("/consume-memory"),
        ],
        entrypoint: &["/consumer"],
        ..picture("resource-consumer", &["1.14"])
    },
    Picture {
        content: &[Program("images/regression-issue-74839", "/regression-issue-74839", 0o755)],
        entrypoint: &["/regression-issue-74839"],
        ..picture("regression-issue-74839", &["1.5"])
    },
    Picture {
        content: &[Program("images/apparmor-loader", "/usr/bin/loader", 0o755)],
        entrypoint: &["/usr/bin/loader"],
        ..picture("apparmor-loader", &["1.4"])
    },
    Picture {
        content: &[Program("images/sample-device-plugin", "/sampledeviceplugin", 0o755)],
        entrypoint: &["/sampledeviceplugin", "-alsologtostderr"],
        ..picture("sample-device-plugin", &["1.7"])
    },
    Picture {
        content: &[
            Package("usr/bin/ipcs", "/usr/bin/ipcs"),
            Package("usr/bin/ipcmk", "/usr/bin/ipcmk"),
            Package("usr/bin/ipcrm", "/usr/bin/ipcrm"),
        ],
        cmd: &["sh"],
        ..picture("ipc-utils", &["1.4"])
    },
];
