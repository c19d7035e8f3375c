import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCgroups } from '../../lib/callers/host/cgroup.ts';

const A = 'a1'.repeat(32);
const B = 'b2'.repeat(32);
const POD = 'c3'.repeat(32);

/** A process of cgroup version 2 has one line, one of version 1 a line for each hierarchy. */
const v2 = (path: string): string => `0::${path}\n`;
const v1 = (...lines: string[]): string => lines.map((line, index) => `${lines.length - index}:${line}\n`).join('');

for (const [what, path, group] of [
  ['Docker, cgroupfs', `/docker/${A}`, `/docker/${A}`],
  ['Docker, systemd', `/system.slice/docker-${A}.scope`, `/system.slice/docker-${A}.scope`],
  ['Docker, a parent of its own', `/foo.slice/foo-bar.slice/docker-${A}.scope`,
    `/foo.slice/foo-bar.slice/docker-${A}.scope`],
  ['Docker, a group of its own inside', `/docker/${A}/init.scope`, `/docker/${A}`],
  ['Docker in Docker', `/docker/${A}/docker/${B}`, `/docker/${A}`],
  ['ECS', `/ecs/0123456789abcdef0123456789abcdef/${A}`, `/ecs/0123456789abcdef0123456789abcdef/${A}`],
  ['Kubernetes', `/kubepods/burstable/pod00000000-1111-2222-3333-444444444444/${A}`,
    `/kubepods/burstable/pod00000000-1111-2222-3333-444444444444/${A}`],
  ['containerd', `/kubepods.slice/kubepods-pod0.slice/cri-containerd-${A}.scope`,
    `/kubepods.slice/kubepods-pod0.slice/cri-containerd-${A}.scope`],
  ['Podman, systemd', `/machine.slice/libpod-${A}.scope`, `/machine.slice/libpod-${A}.scope`],
  ['Podman, systemd, 4.x', `/machine.slice/libpod-${A}.scope/container`, `/machine.slice/libpod-${A}.scope`],
  ['Podman, cgroupfs', `/libpod_parent/libpod-${A}`, `/libpod_parent/libpod-${A}`],
  ['Podman, cgroupfs, 4.x', `/libpod_parent/libpod-${A}/container`, `/libpod_parent/libpod-${A}`],
  ['Podman, a pod, systemd', `/machine.slice/machine-libpod_pod_${POD}.slice/libpod-${A}.scope/container`,
    `/machine.slice/machine-libpod_pod_${POD}.slice/libpod-${A}.scope`],
  ['Podman, a pod, cgroupfs', `/libpod_parent/${POD}/libpod-${A}`, `/libpod_parent/${POD}/libpod-${A}`],
  ['Podman, split', `/system.slice/web.service/libpod-payload-${A}`, `/system.slice/web.service/libpod-payload-${A}`],
  ['the name of another one inside', `/docker/${A}/docker-${B}.scope`, `/docker/${A}`],
  ['the name of another one deep inside', `/system.slice/docker-${A}.scope/x/docker/${B}/y`,
    `/system.slice/docker-${A}.scope`],
  ['a name with colons inside', `/docker/${A}/0::/docker/${B}`, `/docker/${A}`],
  ['a line feed as the kernel writes it', `/docker/${A}/\\0120::/docker/${B}`, `/docker/${A}`],
] as const) {
  test(`a container is found by the first id from the root: ${what}`, () => {
    assert.deepEqual(parseCgroups(v2(path)), { kind: 'container', id: A, groups: [`:${group}`] });
    assert.deepEqual(parseCgroups(v1(`memory:${path}`, `name=systemd:${path}`, ':/')), {
      kind: 'container', id: A, groups: [`memory:${group}`, `name=systemd:${group}`],
    });
  });
}

for (const path of [
  '/', '/init.scope', '/user.slice/user-1000.slice/session-3.scope', '/system.slice/docker.service',
  '/system.slice/ssh.service', '/process_api/f8aa03c981df408cfb9ae3943bced68a', `/x-${'a'.repeat(63)}.scope`,
  `/x-${'a'.repeat(65)}.scope`, `/${'A'.repeat(64)}`,
]) {
  test(`${path} is not in a container`, () => {
    assert.deepEqual(parseCgroups(v2(path)), { kind: 'host' });
    assert.deepEqual(parseCgroups(v1(`cpu,cpuacct:${path}`, 'name=systemd:/', `:${path}`)), { kind: 'host' });
  });
}

for (const [what, text] of [
  ['nothing', ''],
  ['no lines of groups', 'x\n'],
  ['a line among them that is none', `1:memory:/docker/${A}\nx\n`],
  ['a path that is none', '0::docker\n'],
  ['different containers in different hierarchies', v1(`memory:/docker/${A}`, `pids:/docker/${B}`)],
  ['a place above the root that the proxy sees', v2(`/../${A}`)],
  ['a place above it in one hierarchy', v1(`memory:/docker/${A}`, 'pids:/../..')],
  ['a pod alone', v2(`/machine.slice/machine-libpod_pod_${POD}.slice`)],
] as const) {
  test(`${what} is neither the host nor a container`, () => {
    assert.equal(parseCgroups(text).kind, 'unclear');
  });
}
