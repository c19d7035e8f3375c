/** Which container a process is in, by the names of its control groups. */

/** What the file /proc/PID/cgroup says of a process. */
export type CgroupIdentity =
  /** No name on the way has anything of a container. */
  | { readonly kind: 'host' }
  | {
      readonly kind: 'container';
      readonly id: string;
      /**
       * The container's own groups that it is in, each with its hierarchy. Whoever may make groups may give them any
       * name, so the names are only believed where the container's first process is in the same ones.
       */
      readonly groups: readonly string[];
    }
  | { readonly kind: 'unclear'; readonly why: string };

const ID = /(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])/;

/**
 * Reads the text of /proc/PID/cgroup, of either version or both. Source: cgroups(7).
 *
 * The names that engines give, after whatever --cgroup-parent says:
 *
 *   /docker/ID, /ecs/TASK/ID, /kubepods/…/ID                          Docker, driver cgroupfs
 *   /system.slice/docker-ID.scope                                     Docker, driver systemd
 *   /machine.slice/libpod-ID.scope[/container]                        Podman, driver systemd
 *   /machine.slice/machine-libpod_pod_POD.slice/libpod-ID.scope       the same in a pod
 *   /libpod_parent/libpod-ID, /libpod_parent/POD/libpod-ID            Podman, driver cgroupfs
 *   /system.slice/NAME.service/libpod-payload-ID                      Podman, --cgroups=split
 *
 * A container may make groups below its own, under any name: so the first name from the root that has an id counts.
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

/** `number:controllers:path`; the path may have colons of its own. */
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

/** Podman's pods have ids that look like those of containers. */
function isPod(name: string, parent: string | undefined): boolean {
  return name.endsWith('.slice') || (parent === 'libpod_parent' && /^[0-9a-f]+$/.test(name));
}
