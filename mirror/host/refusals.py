"""What is told on a host that `peili up` leaves as it is: why, and what to do there instead. Pure."""

from __future__ import annotations

from mirror.host.facts import DockerFacts

_PAGE = "docs/plain-host.md"

# By ID of os-release. Their configuration is their own API's, and is written anew at each start.
IMMUTABLE = {
    "talos": (
        "this is Talos Linux: its files are made from its machine configuration, and are not changed by hand. Run the "
        "daemon by the chart, and let the machine configuration name it as a mirror for all registries:\n"
        "  apiVersion: v1alpha1\n"
        "  kind: RegistryMirrorConfig\n"
        '  name: "*"\n'
        "  endpoints:\n"
        "    - url: http://127.0.0.1:29020\n"
        f"({_PAGE}, Talos)"
    ),
    "bottlerocket": (
        "this is Bottlerocket: its files are made from its settings, and are not changed by hand. Run the daemon by "
        "the chart, and let the settings name it as a mirror for all registries:\n"
        "  [[settings.container-registry.mirrors]]\n"
        '  registry = "*"\n'
        '  endpoint = ["http://127.0.0.1:29020"]\n'
        f"({_PAGE}, Bottlerocket)"
    ),
}


def read_only_refusal(path: str) -> str:
    return (
        f"{path} is on a file system that cannot be written: this host is configured by other means. What peili up "
        f"would write, and why, is in {_PAGE}; write it by those means, run the daemon with `peili serve`, or remount "
        "it read-write"
    )


DOCKER_OLDEST = 28


def docker_refusal(facts: DockerFacts, *, is_too_old: bool) -> str:
    if is_too_old:
        what = (
            f"Docker {facts.version} does not read hosts.toml files: upgrade it to {DOCKER_OLDEST} or later, with the "
            "containerd image store"
        )
    else:
        what = (
            f"Docker {facts.version} keeps its images in its own store ({facts.store}), where there are no compressed "
            "layers to share. Peili works with its containerd image store"
        )
    return (
        f'{what}: put "features": {{"containerd-snapshotter": true}} into /etc/docker/daemon.json and restart Docker. '
        "It then starts with an empty list of images and without the old containers; both are back when the line is "
        "out again. That is yours to decide, so peili up does not do it"
    )


def legacy_refusal(file: str, names: tuple[str, ...], hosts_dir: str) -> str:
    return (
        f"{file} has registry.mirrors, or tls in registry.configs, for {', '.join(names)}. containerd reads either "
        "these or hosts.toml files, and Peili needs the latter. Write what they say to "
        f'{hosts_dir}/REGISTRY/hosts.toml (an endpoint becomes [host."URL"], insecure_skip_verify becomes '
        "skip_verify, ca_file becomes ca), take the tables out, and run peili up again"
    )
