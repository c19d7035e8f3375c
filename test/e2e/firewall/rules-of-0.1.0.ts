// The rules that version 0.1.0 of iptables/setup made on a host with Docker, as iptables-restore takes them.
import { IMDS4, IMDS6 } from './addresses.ts';

const INTERFACES = ['docker0', 'br-+', 'docker_gwbridge'];

export const RULES_OF_0_1_0 = { iptables: rules(IMDS4), ip6tables: rules(IMDS6) };

function rules(address: string): string {
  return `*mangle
:METADATAPROXY-FORWARD - [0:0]
-A METADATAPROXY-FORWARD -d ${address} -j DROP
-I FORWARD 1 -j METADATAPROXY-FORWARD
COMMIT
*filter
:DOCKER-USER - [0:0]
:METADATAPROXY-FORWARD - [0:0]
:METADATAPROXY-INPUT - [0:0]
-A METADATAPROXY-FORWARD -d ${address} -j DROP
-A METADATAPROXY-INPUT -i lo -j RETURN
${INTERFACES.map((name) => `-A METADATAPROXY-INPUT -i ${name} -p tcp -m tcp --dport 18000 -j ACCEPT`).join('\n')}
-A METADATAPROXY-INPUT -p tcp -m tcp --dport 18000 --syn -j DROP
-I DOCKER-USER 1 -j METADATAPROXY-FORWARD
-I FORWARD 1 -j METADATAPROXY-FORWARD
-I INPUT 1 -j METADATAPROXY-INPUT
COMMIT
*nat
:METADATAPROXY-REDIRECT - [0:0]
${INTERFACES.map((name) => `-A METADATAPROXY-REDIRECT -i ${name} -d ${address} -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 18000`).join('\n')}
-I PREROUTING 1 -j METADATAPROXY-REDIRECT
COMMIT
`;
}
