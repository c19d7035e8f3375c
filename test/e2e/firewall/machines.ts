// The machines of the firewall's tests: the host, with IPv6, and the metadata service's at the other end of a cable.
import type { LabDirectory } from '../leftovers.ts';
import { Machine } from '../machine.ts';
import { CABLE, HOST4, HOST6, IMDS4, IMDS6 } from './addresses.ts';

export async function buildMachines(directory: LabDirectory): Promise<readonly [Machine, Machine]> {
  const [machine, metadata] = await Promise.all([
    Machine.create('ec2host', directory), Machine.create('metadata', directory),
  ]);
  await machine.connect(metadata, { name: CABLE, address: `${HOST4}/24` },
    { name: 'ec2host', address: `${IMDS4}/24` });
  await metadata.run(['/bin/sh', '-ec', `
    ip address add ${IMDS6}/64 dev ec2host nodad
    ip route add default via ${HOST4}
    ip route add default via ${HOST6}
  `]);
  // The kernel's own check of source addresses is off, so that only the rules can stop anything.
  await machine.run(['/bin/sh', '-ec', `
    ip address add ${HOST6}/64 dev ${CABLE} nodad
    echo 1 >/proc/sys/net/ipv4/ip_forward
    echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
    echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter
    echo 0 >/proc/sys/net/ipv4/conf/default/rp_filter
  `]);
  return [machine, metadata];
}
