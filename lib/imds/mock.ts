/**
 * A mock IMDS for demonstrations and development. It serves the metadata of a t3 instance on a free loopback port, to the
 * same client as the upstream IMDS. It has no credentials, because the proxy answers those requests.
 */

import { createServer } from 'node:http';
import { listen } from '../util/listen.ts';

/** A directory is an object, a value a string. */
type Tree = { readonly [name: string]: Tree | string };

export interface MockImds {
  readonly url: URL;
  close(): void;
}

const REGION = 'us-east-1';
const ZONE = 'us-east-1a';
const MAC = 'ae:30:76:ce:38:62'; // From lyft's mock, which uses capitals.
const LOCAL_IP = '172.31.34.17';
const PUBLIC_IP = '203.0.113.25'; // RFC 5737 reserves this block for documentation.
const LOCAL_HOSTNAME = 'ip-172-31-34-17.ec2.internal';
const PUBLIC_HOSTNAME = 'ec2-203-0-113-25.compute-1.amazonaws.com';
const ACCOUNT_ID = '123456789012';
const IMAGE_ID = 'ami-0abcdef1234567890';

const VERSIONS = ['1.0', '2008-02-01', '2012-01-12', '2016-09-02', '2019-10-01', '2021-07-15', 'latest'];

/** @param instanceId may lack the `i-`, as in lyft's MOCKED_INSTANCE_ID */
export async function startMockImds(instanceId: string): Promise<MockImds> {
  const version = versionTree(instanceId.startsWith('i-') ? instanceId : `i-${instanceId}`);
  const server = createServer((request, response) => {
    if (request.method === 'PUT' && request.url === '/latest/api/token') {
      const ttl = String(request.headers['x-aws-ec2-metadata-token-ttl-seconds']);
      response.writeHead(200, { 'Content-Type': 'text/plain', 'X-Aws-Ec2-Metadata-Token-Ttl-Seconds': ttl });
      response.end('MOCK-TOKEN');
      return;
    }
    const found = lookUp(version, request.url ?? '/');
    response.writeHead(found === undefined ? 404 : 200, { 'Content-Type': 'text/plain', Server: 'EC2ws' });
    response.end(found);
  });
  const { port } = await listen(server, { host: '127.0.0.1', port: 0 });
  server.unref(); // The proxy's own listeners keep the process alive.
  return { url: new URL(`http://127.0.0.1:${port}`), close: () => server.close() };
}

/** Every version has the same tree, even an unlisted one. */
function lookUp(version: Tree, path: string): string | undefined {
  const [versionName, ...names] = path.split('/').filter((part) => part !== '');
  if (versionName === undefined) return VERSIONS.join('\n');
  let node: Tree | string | undefined = version;
  for (const name of names) node = typeof node === 'object' ? child(node, name) : undefined;
  return typeof node === 'object' ? listing(node) : node;
}

/** IMDS lists a public key as `0=name`; its path is `0`. */
function child(directory: Tree, name: string): Tree | string | undefined {
  const wanted = name.toLowerCase() === MAC ? MAC : name;
  const key = Object.keys(directory).find((candidate) => candidate === wanted || candidate.startsWith(`${wanted}=`));
  return key === undefined ? undefined : directory[key];
}

/** One name a line; directories end in a slash. */
function listing(directory: Tree): string {
  return Object.entries(directory)
    .map(([name, node]) => (typeof node === 'string' ? name : `${name}/`))
    .join('\n');
}

function versionTree(instanceId: string): Tree {
  return { dynamic: dynamic(instanceId), 'meta-data': metaData(instanceId), 'user-data': '#!/bin/sh\necho mock\n' };
}

function metaData(instanceId: string): Tree {
  return {
    'ami-id': IMAGE_ID,
    'ami-launch-index': '0',
    'ami-manifest-path': '(unknown)',
    'block-device-mapping': { ami: '/dev/xvda', root: '/dev/xvda' },
    events: { maintenance: { history: '[]', scheduled: '[]' }, recommendations: {} },
    hostname: LOCAL_HOSTNAME,
    iam: {}, // The proxy answers its paths.
    'instance-action': 'none',
    'instance-id': instanceId,
    'instance-life-cycle': 'on-demand',
    'instance-type': 't3.micro',
    'local-hostname': LOCAL_HOSTNAME,
    'local-ipv4': LOCAL_IP,
    mac: MAC,
    metrics: { vhostmd: '<?xml version="1.0" encoding="UTF-8"?>' },
    network: {
      interfaces: {
        macs: {
          [MAC]: {
            'device-number': '0',
            'interface-id': 'eni-0123456789abcdef0',
            'ipv4-associations': { [PUBLIC_IP]: LOCAL_IP },
            'local-hostname': LOCAL_HOSTNAME,
            'local-ipv4s': LOCAL_IP,
            mac: MAC,
            'owner-id': ACCOUNT_ID,
            'public-hostname': PUBLIC_HOSTNAME,
            'public-ipv4s': PUBLIC_IP,
            'security-group-ids': 'sg-0123456789abcdef0',
            'security-groups': 'default',
            'subnet-id': 'subnet-0123456789abcdef0',
            'subnet-ipv4-cidr-block': '172.31.32.0/20',
            'vpc-id': 'vpc-0123456789abcdef0',
            'vpc-ipv4-cidr-block': '172.31.0.0/16',
            'vpc-ipv4-cidr-blocks': '172.31.0.0/16',
          },
        },
      },
    },
    placement: {
      'availability-zone': ZONE,
      'availability-zone-id': 'use1-az4',
      region: REGION,
    },
    profile: 'default-hvm',
    'public-hostname': PUBLIC_HOSTNAME,
    'public-ipv4': PUBLIC_IP,
    'public-keys': { '0=mock-key': { 'openssh-key': 'ssh-ed25519 AAAAMOCK mock-key' } },
    'reservation-id': 'r-0123456789abcdef0',
    'security-groups': 'default',
    services: { domain: 'amazonaws.com', partition: 'aws' },
    tags: { instance: { Name: 'mock-instance' } },
  };
}

function dynamic(instanceId: string): Tree {
  const document = {
    accountId: ACCOUNT_ID,
    architecture: 'x86_64',
    availabilityZone: ZONE,
    billingProducts: null,
    devpayProductCodes: null,
    marketplaceProductCodes: null,
    imageId: IMAGE_ID,
    instanceId,
    instanceType: 't3.micro',
    kernelId: null,
    pendingTime: '2024-01-01T00:00:00Z',
    privateIp: LOCAL_IP,
    ramdiskId: null,
    region: REGION,
    version: '2017-09-30',
  };
  return {
    fws: { 'instance-monitoring': 'disabled' },
    'instance-identity': {
      document: JSON.stringify(document, null, 2),
      dsa2048: 'MOCK-DSA2048',
      pkcs7: 'MOCK-PKCS7',
      rsa2048: 'MOCK-RSA2048',
      signature: 'MOCK-SIGNATURE',
    },
  };
}
