// How containers of the tests ask for metadata and credentials, and what they are told.
import type { Container, ContainerSpec } from './container.ts';
import { ECS_ADDRESS, IMDS_ADDRESS, type Lab, STS_FOR_CONTAINERS } from './lab.ts';

export const METADATA = `http://${IMDS_ADDRESS}/latest/meta-data`;
export const ROLE_NAMES = `${METADATA}/iam/security-credentials/`;
export const ECS_DOOR = `http://${ECS_ADDRESS}/v2/credentials/own`;

/** Credentials as the ECS door tells them. */
export interface EcsCredentials {
  readonly RoleArn: string;
  readonly AccessKeyId: string;
  readonly Expiration: string;
}

/** A command that prints what a URL answers, within five seconds and without a second try. */
export function get(url: string, ...headers: string[]): string[] {
  return ['timeout', '5', 'wget', '-q', '-O', '-', ...headers.flatMap((header) => ['--header', header]), url];
}

/** Asks for a URL from inside a container that runs. Anything but 200 is an error. */
export function ask(container: Container, url: string, ...headers: string[]): Promise<string> {
  return container.exec(...get(url, ...headers));
}

/** The status of the answer, when it is not 200: what wget says of it. */
export async function refusal(container: Container, url: string): Promise<string> {
  const { status, stdout, stderr } = await container.tryExec(...get(url));
  if (status === 0) return `answered with ${stdout}`;
  return /HTTP\/1\.1 (\d+)/.exec(stderr)?.[1] ?? stderr;
}

/** The name of the role that a container gets, by IMDS. */
export function roleName(container: Container): Promise<string> {
  return ask(container, ROLE_NAMES);
}

/** The credentials that a container gets, by the ECS door. */
export async function credentials(container: Container): Promise<EcsCredentials> {
  return JSON.parse(await ask(container, ECS_DOOR)) as EcsCredentials;
}

// The AWS CLI of Debian 12 has no setting that keeps it to IMDSv1: this is the CLI with its token request
// taken out.
const CLI_WITHOUT_TOKENS = `
import sys
from awscli.botocore.utils import IMDSFetcher
assert IMDSFetcher._fetch_metadata_token
IMDSFetcher._fetch_metadata_token = lambda self: None
import awscli.clidriver
sys.exit(awscli.clidriver.main())
`;

export const AWS_CLI = ['/usr/bin/aws'];
export const AWS_CLI_WITH_IMDSV1 = ['/usr/bin/python3', '-c', CLI_WITHOUT_TOKENS];

/** What `aws sts get-caller-identity` came to in a container. */
export interface CallerIdentity {
  /** The ARN that STS told, or what the CLI said instead. */
  readonly arn: string;
  /** The ARN of a session under a role of the container's own: `{role}/{container name}-{short id}`. */
  sessionOf(role: string, account: string): string;
}

/**
 * Runs a container whose only command is `aws sts get-caller-identity`, with nothing but `spec` to find
 * credentials by.
 */
export async function callerIdentity(lab: Lab, spec: ContainerSpec, cli = AWS_CLI): Promise<CallerIdentity> {
  const container = await lab.docker.create({
    ...spec,
    hostPrograms: true,
    env: { HOME: '/tmp', AWS_REGION: 'us-east-1', ...spec.env },
    command: [...cli, '--endpoint-url', STS_FOR_CONTAINERS, '--output', 'text', '--query', 'Arn',
      'sts', 'get-caller-identity'],
  });
  const { status, stdout, stderr } = await container.run();
  return {
    arn: status === 0 ? stdout.trim() : `status ${status}: ${stderr.trim()}`,
    sessionOf: (role, account) =>
      `arn:aws:sts::${account}:assumed-role/${role}/${container.name}-${container.shortId}`,
  };
}
