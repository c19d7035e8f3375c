// Counts packets to the metadata addresses with an nftables table of the lab's own, before any other rule sees them.
import type { Machine } from '../machine.ts';
import { PROXY_PORT } from '../ports.ts';
import { CABLE, IMDS4, IMDS6 } from './addresses.ts';

/** A request to this port of the metadata service is not counted: it shows that what was sent before it has arrived. */
export const SENTINEL_PORT = 8081;

const SYN = 'tcp flags & (syn | ack) == syn';

/** The first packets of TCP connections, UDP, and pings, to a metadata address. */
function counted(counter: string, from: string): string {
  return [
    `ip daddr ${IMDS4} ${SYN} tcp dport != ${SENTINEL_PORT}`, `ip6 daddr ${IMDS6} ${SYN} tcp dport != ${SENTINEL_PORT}`,
    `ip daddr ${IMDS4} meta l4proto udp`, `ip6 daddr ${IMDS6} meta l4proto udp`,
    `ip daddr ${IMDS4} icmp type echo-request`, `ip6 daddr ${IMDS6} icmpv6 type echo-request`,
  ].map((match) => `${from} ${match} counter name ${counter}`).join('\n');
}

/** Counters of the metadata service's machine. */
export const ARRIVALS = `
  counter leaked {}
  counter segments {}
  chain prerouting {
    type filter hook prerouting priority -400
    tcp dport != ${SENTINEL_PORT} meta l4proto tcp counter name segments
    ${counted('leaked', '')}
  }`;

/** Counters of the host. */
export const DEPARTURES = `
  counter sent {}
  counter segments {}
  counter outside {}
  counter to_loopback {}
  counter to_proxy {}
  counter delivered {}
  chain prerouting {
    type filter hook prerouting priority -400
    ip daddr ${IMDS4} meta l4proto tcp counter name segments
    ip6 daddr ${IMDS6} meta l4proto tcp counter name segments
    iifname "${CABLE}" tcp dport ${PROXY_PORT} ${SYN} counter name outside
    iifname != "lo" ip daddr 127.0.0.0/8 ${SYN} counter name to_loopback
    iifname != { "lo", "${CABLE}" } tcp dport ${PROXY_PORT} ${SYN} counter name to_proxy
    ${counted('sent', `iifname != "${CABLE}"`)}
  }
  chain input {
    type filter hook input priority 100
    iifname != "lo" tcp dport ${PROXY_PORT} ${SYN} counter name delivered
  }`;

export class PacketCounters {
  readonly #machine: Machine;
  readonly #table: string;

  constructor(machine: Machine, counters: string) {
    this.#machine = machine;
    this.#table = `add table inet lab
      delete table inet lab
      table inet lab {${counters}
      }`;
  }

  /** Sets all counters to zero, also if the table was flushed. */
  async reset(): Promise<void> {
    await this.#machine.run(['/bin/sh', '-c', 'printf "%s\\n" "$1" | nft --file -', 'sh', this.#table]);
  }

  async read(name: string): Promise<number> {
    const listed = await this.#machine.run(['nft', '--json', 'list', 'counter', 'inet', 'lab', name]);
    return Number(/"packets": (\d+)/.exec(listed)?.[1]);
  }
}
