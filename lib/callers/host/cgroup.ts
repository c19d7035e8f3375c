/** The container that a process is in, by the names of its control groups. */

/** The content of /proc/PID/cgroup. */
export type CgroupIdentity =
  /** No part of the path has a container's name. */
  | { readonly kind: 'host' }
  | {
      readonly kind: 'container';
      readonly id: string;
      /**
       * The container's groups that the process is in, each with its hierarchy. A user who may create groups can give
       * them any name, so the caller compares them with those of the container's first process.
       */
      readonly groups: readonly string[];
    }
  | { readonly kind: 'unclear'; readonly why: string };

const ID = /(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])/;

/**
 * Parses /proc/PID/cgroup, of cgroup v1, v2 or both. Source: cgroups(7).
 *
 * Engines create these names, below --cgroup-parent:
 *
 *   /docker/ID, /ecs/TASK/ID, /kubepods/…/ID                          Docker, driver cgroupfs
 *   /system.slice/docker-ID.scope                                     Docker, driver systemd
 *   /machine.slice/libpod-ID.scope[/container]                        Podman, driver systemd
 *   /machine.slice/machine-libpod_pod_POD.slice/libpod-ID.scope       the same in a pod
 *   /libpod_parent/libpod-ID, /libpod_parent/POD/libpod-ID            Podman, driver cgroupfs
 *   /system.slice/NAME.service/libpod-payload-ID                      Podman, --cgroups=split
 *
 * A container may create groups of any name below its own, so the first id from the root counts.
 */
export function parseCgroups(text: string): CgroupIdentity {
  const lines = text.split('\n').filter((line) => line !== '').map(parseLine);
  if (lines.length === 0 || lines.includes(undefined)) {
    return { kind: 'unclear', why: 'its control groups cannot be read' };
  }
  const ids = new Set<string>();
  const groups: string[] = [];
  for (const { hierarchy, path } of lines.filter((line) => line !== undefined)) {
    if (path.startsWith('/..')) {
      return { kind: 'unclear', why: 'the proxy does not see control groups as the host does (--cgroupns=host)' };
    }
    const found = outermostContainer(path);
    if (found) {
      ids.add(found.id);
      groups.push(`${hierarchy}:${found.group}`);
    } else if (ID.test(path)) {
      return { kind: 'unclear', why: 'it is in a pod, but in no container' };
    }
  }
  const [id, other] = ids;
  if (other !== undefined) return { kind: 'unclear', why: 'its control groups are those of several containers' };
  return id === undefined ? { kind: 'host' } : { kind: 'container', id, groups };
}

/** `number:controllers:path`; the path may contain colons. */
function parseLine(line: string): { hierarchy: string; path: string } | undefined {
  const [, hierarchy, path] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
  return hierarchy === undefined || path === undefined ? undefined : { hierarchy, path };
}

function outermostContainer(path: string): { id: string; group: string } | undefined {
  const names = path.split('/');
  for (const [index, name] of names.entries()) {
    const id = ID.exec(name)?.[0];
    if (id === undefined || isPod(name, names[index - 1])) continue;
    return { id, group: names.slice(0, index + 1).join('/') };
  }
  return undefined;
}

/** A pod's id in Podman looks like a container's. */
function isPod(name: string, parent: string | undefined): boolean {
  return name.endsWith('.slice') || (parent === 'libpod_parent' && /^[0-9a-f]+$/.test(name));
}
