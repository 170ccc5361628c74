//! The systemd unit that a process runs in.

use super::Cgroup;

/// Units under which other people's programs run: their names say nothing about the service.
const RUNTIMES: [&str; 14] = [
    "docker",
    "dockerd",
    "containerd",
    "crio",
    "cri-o",
    "podman",
    "kubelet",
    "k3s",
    "k3s-agent",
    "rke2-server",
    "rke2-agent",
    "snap.docker.dockerd",
    "snap.microk8s.daemon-containerd",
    "buildkit",
];

/// Name of the innermost `*.service` of a process, instance included; `None` for users' managers and container
/// runtimes.
pub(super) fn service_unit(cgroups: &[Cgroup]) -> Option<&str> {
    let path = &systemd_hierarchy(cgroups)?.path;
    let unit = path.rsplit('/').find(|part| part.ends_with(".service"))?;
    let name = unit_name(unit);
    let is_foreign = name == "user" || RUNTIMES.contains(&name);
    (!name.is_empty() && !is_foreign).then_some(unit)
}

/// Name of a unit without its suffix and instance.
pub(super) fn unit_name(unit: &str) -> &str {
    let name = unit.strip_suffix(".service").unwrap_or(unit);
    name.split_once('@').map_or(name, |(template, _)| template)
}

fn systemd_hierarchy(cgroups: &[Cgroup]) -> Option<&Cgroup> {
    let by_controllers = |wanted: &str| cgroups.iter().find(|cgroup| cgroup.controllers == wanted);
    by_controllers("name=systemd").or_else(|| by_controllers(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(lines: &[&str]) -> Option<String> {
        let cgroups: Vec<Cgroup> = lines
            .iter()
            .map(|line| Cgroup::parse(line).unwrap())
            .collect();
        service_unit(&cgroups).map(|unit| unit_name(unit).to_owned())
    }

    #[test]
    fn finds_the_innermost_service() {
        let cases: &[(&[&str], Option<&str>)] = &[
            (&["0::/system.slice/nginx.service"], Some("nginx")),
            (
                &["0::/system.slice/system-shop.slice/shop@eu.service/worker"],
                Some("shop"),
            ),
            (
                &[
                    "12:cpu:/x.service",
                    "1:name=systemd:/system.slice/a.service",
                    "0::/b.service",
                ],
                Some("a"),
            ),
            (
                &["0::/user.slice/user-1000.slice/user@1000.service/app.slice/web.service"],
                Some("web"),
            ),
            (
                &["0::/user.slice/user-1000.slice/user@1000.service/init.scope"],
                None,
            ),
            (&["0::/user.slice/user-1000.slice/session-2.scope"], None),
            (&["0::/system.slice/docker.service"], None),
            (&["0::/system.slice/containerd.service/kubepods/pod1"], None),
            (&["0::/system.slice/docker-0123.scope"], None),
            (
                &["0::/docker/0123/system.slice/apache2.service"],
                Some("apache2"),
            ),
            (&["0::/.service"], None),
            (&["0::/"], None),
            (&[], None),
        ];
        for (lines, expected) in cases {
            assert_eq!(unit(lines).as_deref(), *expected, "{lines:?}");
        }
    }
}
