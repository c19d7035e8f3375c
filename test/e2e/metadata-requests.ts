// The requests that the tests' containers send for metadata and credentials.
import type { Container, ContainerSpec } from './container.ts';
import { ECS_ADDRESS, IMDS_ADDRESS, type Lab, STS_FOR_CONTAINERS } from './lab.ts';

export const METADATA = `http://${IMDS_ADDRESS}/latest/meta-data`;
export const ROLE_NAMES = `${METADATA}/iam/security-credentials/`;
export const ECS_ENDPOINT = `http://${ECS_ADDRESS}/v2/credentials/any`;

/** The ECS-style endpoint's answer. */
export interface EcsCredentials {
  readonly RoleArn: string;
  readonly AccessKeyId: string;
  readonly Expiration: string;
}

/** A command that prints the answer of a URL, with a timeout of five seconds and without a retry. */
export function get(url: string, ...headers: string[]): string[] {
  return ['timeout', '5', 'wget', '-q', '-O', '-', ...headers.flatMap((header) => ['--header', header]), url];
}

/** Requests a URL from inside a running container. Any status but 200 is an error. */
export function ask(container: Container, url: string, ...headers: string[]): Promise<string> {
  return container.exec(...get(url, ...headers));
}

/** The answer's status if it is not 200, else wget's error message. */
export async function refusal(container: Container, url: string): Promise<string> {
  const { status, stdout, stderr } = await container.tryExec(...get(url));
  if (status === 0) return `answered with ${stdout}`;
  return /HTTP\/1\.1 (\d+)/.exec(stderr)?.[1] ?? stderr;
}

/** Credentials of the ECS-style endpoint; undefined for any other answer. */
export function parseCredentials(json: string): EcsCredentials | undefined {
  try {
    return JSON.parse(json) as EcsCredentials;
  } catch {
    return undefined;
  }
}

/** The name of a container's role, from IMDS. */
export function roleName(container: Container): Promise<string> {
  return ask(container, ROLE_NAMES);
}

/** A container's credentials, from the ECS-style endpoint. */
export async function credentials(container: Container): Promise<EcsCredentials> {
  return JSON.parse(await ask(container, ECS_ENDPOINT)) as EcsCredentials;
}

// The AWS CLI of Debian 12 has no setting for IMDSv1, so its token request is replaced.
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

/** The result of `aws sts get-caller-identity` in a container. */
export interface CallerIdentity {
  /** The ARN from STS, or the CLI's error message. */
  readonly arn: string;
  /** The ARN of the container's session of a role: `{role}/{container name}-{short id}`. */
  sessionOf(role: string, account: string): string;
}

/**
 * Runs a container whose only command is `aws sts get-caller-identity`. Only `spec` lets it find credentials.
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
