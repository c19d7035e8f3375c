import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';
import { delay, FaultRules, type Fault } from './fault-rules.ts';
import { Journal } from './journal.ts';
import { reset } from './reset.ts';
import { RestartableServer } from './restartable-server.ts';

/** Part of every secret key that the fake STS issues. Tests search logs and metrics for it. */
export const SECRET_MARK = 'StandInSecret';
/** Part of every session token that the fake STS issues. */
export const TOKEN_MARK = 'StandInToken';
/** The account of the source credentials and of the roles in GetRole's answers. */
export const ACCOUNT_ID = '123456789012';

/** A call of STS or IAM. A missing parameter is undefined, or an empty list. */
export interface StsCall {
  readonly action: string;
  readonly roleArn: string | undefined;
  readonly roleSessionName: string | undefined;
  readonly externalId: string | undefined;
  readonly policy: string | undefined;
  readonly policyArns: readonly string[];
  readonly tags: Readonly<Record<string, string>>;
  readonly transitiveTagKeys: readonly string[];
  readonly durationSeconds: number | undefined;
  readonly sourceIdentity: string | undefined;
  /** Only for GetRole. */
  readonly roleName: string | undefined;
  /** The access key that signed the call. */
  readonly accessKeyId: string;
  readonly region: string;
  /** All parameters as received. */
  readonly parameters: Readonly<Record<string, string>>;
}

/** Issued credentials, and the call that requested them. */
export interface Issued {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string;
  /** In whole seconds, as in the answer. */
  readonly expiration: Date;
  readonly call: StsCall;
}

export type StsFault =
  /** Answers once the fault is lifted. */
  | { readonly kind: 'hold' }
  | { readonly kind: 'delay'; readonly ms: number }
  /** 403 AccessDenied. */
  | { readonly kind: 'deny' }
  /** 400 Throttling. */
  | { readonly kind: 'throttle' }
  /** 403 ExpiredToken: the source credentials have expired. */
  | { readonly kind: 'expired-token' }
  /** An error in AWS's format, such as 503 ServiceUnavailable. */
  | { readonly kind: 'error'; readonly status: number; readonly code: string; readonly message?: string }
  /** A 200 whose body is not XML. */
  | { readonly kind: 'malformed' }
  /** A 200 whose XML is truncated. */
  | { readonly kind: 'truncated' }
  /** A 200 with this body. */
  | { readonly kind: 'body'; readonly body: string }
  /** Resets the connection instead of answering. */
  | { readonly kind: 'reset' };

export interface StsOptions {
  /** Milliseconds since the epoch. A different clock makes skewed expirations. */
  readonly now?: () => number;
}

interface Answer {
  readonly status: number;
  readonly xml: string;
}

const STS_NAMESPACE = 'https://sts.amazonaws.com/doc/2011-06-15/';
const IAM_NAMESPACE = 'https://iam.amazonaws.com/doc/2010-05-08/';

/**
 * A fake of the Query APIs of STS (AssumeRole, GetCallerIdentity) and IAM (GetRole) on a free port of 127.0.0.1. It answers
 * every AssumeRole with new credentials that name the role, for any role unless a fault applies.
 */
export class Sts {
  readonly calls = new Journal<StsCall>('a call of STS');
  readonly issued = new Journal<Issued>('credentials from STS');
  /** The lifetime of credentials; overrides DurationSeconds and may be negative. */
  lifetimeSeconds: number | undefined;
  /** The external ID that a role's trust policy requires, by the role's ARN. */
  readonly externalIds = new Map<string, string>();
  /** GetRole's ARN by role name. For other names it is role/{name} in ACCOUNT_ID. */
  readonly roleArns = new Map<string, string>();
  readonly #now: () => number;
  readonly #faults = new FaultRules<StsCall, StsFault>();
  readonly #server = new RestartableServer(
    () => createServer((request, response) => void this.#serve(request, response).catch(() => response.destroy())),
    (server) => server.closeAllConnections(),
  );
  #inFlight = 0;
  #maxInFlight = 0;

  private constructor(options: StsOptions) {
    this.#now = options.now ?? Date.now;
  }

  static async start(options: StsOptions = {}): Promise<Sts> {
    const sts = new Sts(options);
    await sts.listen();
    return sts;
  }

  /** The value of AWS_ENDPOINT_URL_STS and AWS_ENDPOINT_URL_IAM. */
  get url(): string {
    return this.#server.url;
  }

  /** Unanswered calls. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** The maximum number of unanswered calls at any time. */
  get maxInFlight(): number {
    return this.#maxInFlight;
  }

  /** Listens, after stop() again on the same port. */
  listen(): Promise<void> {
    return this.#server.listen();
  }

  /** Ends all connections and refuses new ones. */
  stop(): Promise<void> {
    return this.#server.stop();
  }

  async close(): Promise<void> {
    this.#faults.liftAll();
    await this.stop();
  }

  /**
   * Injects `fault` into all calls, those for one role ARN, or those that `applies` accepts; at most `times` times.
   */
  fault(
    fault: StsFault, applies: string | ((call: StsCall) => boolean) = () => true, times = Infinity,
  ): Fault {
    const matches = typeof applies === 'string' ? (call: StsCall) => call.roleArn === applies : applies;
    return this.#faults.add(fault, matches, times);
  }

  /** The AssumeRole calls so far, for one role or for all. */
  assumed(roleArn?: string): StsCall[] {
    return this.calls.all((call) =>
      call.action === 'AssumeRole' && (roleArn === undefined || call.roleArn === roleArn));
  }

  /** The role that `accessKeyId` was issued for. */
  issuedAs(accessKeyId: string): Issued {
    const [issued] = this.issued.all((one) => one.accessKeyId === accessKeyId);
    if (issued === undefined) throw new Error(`${accessKeyId} was never issued here`);
    return issued;
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const call = parseCall(new URLSearchParams(await text(request)), request.headers.authorization ?? '');
    this.#inFlight += 1;
    this.#maxInFlight = Math.max(this.#maxInFlight, this.#inFlight);
    response.once('close', () => {
      this.#inFlight -= 1;
    });
    this.calls.add(call);
    const applied = this.#faults.apply(call);
    if (applied?.fault.kind === 'hold') await applied.lifted;
    if (applied?.fault.kind === 'delay') await delay(applied.fault.ms, applied.lifted);
    if (applied?.fault.kind === 'reset') return reset(request.socket);
    const { status, xml } = failureOf(applied?.fault, call) ?? this.#answer(call);
    const body = applied?.fault.kind === 'truncated' ? xml.slice(0, xml.length / 2) : xml;
    response.writeHead(status, { 'Content-Type': 'text/xml', 'Content-Length': Buffer.byteLength(body) });
    response.end(body);
  }

  #answer(call: StsCall): Answer {
    if (call.accessKeyId === '') return failure(403, 'MissingAuthenticationToken', 'Missing signature');
    if (call.action === 'AssumeRole') return this.#assumeRole(call);
    if (call.action === 'GetCallerIdentity') return this.#getCallerIdentity(call);
    if (call.action === 'GetRole') return this.#getRole(call);
    return failure(400, 'InvalidAction', `Could not find operation ${call.action}`);
  }

  #assumeRole(call: StsCall): Answer {
    const role = parseRoleArn(call.roleArn ?? '');
    const session = call.roleSessionName ?? '';
    const duration = call.durationSeconds ?? 3600;
    if (role === undefined) return invalid(`roleArn ${call.roleArn}`);
    if (!/^[\w+=,.@-]{2,64}$/.test(session)) return invalid(`roleSessionName ${session}`);
    if (!(duration >= 900 && duration <= 43_200)) return invalid(`durationSeconds ${duration}`);
    const wanted = this.externalIds.get(role.arn);
    if (wanted !== undefined && wanted !== call.externalId) return denial(role.arn);

    const issued = this.#issue(call, role.name);
    return success('AssumeRole', STS_NAMESPACE, `
      <Credentials>
        <AccessKeyId>${issued.accessKeyId}</AccessKeyId>
        <SecretAccessKey>${escaped(issued.secretAccessKey)}</SecretAccessKey>
        <SessionToken>${escaped(issued.sessionToken)}</SessionToken>
        <Expiration>${isoSeconds(issued.expiration)}</Expiration>
      </Credentials>
      <AssumedRoleUser>
        <AssumedRoleId>${roleId(role.name)}:${escaped(session)}</AssumedRoleId>
        <Arn>${escaped(assumedRoleArn(role, session))}</Arn>
      </AssumedRoleUser>
      <PackedPolicySize>1</PackedPolicySize>`);
  }

  #issue(call: StsCall, roleName: string): Issued {
    const number = String(this.issued.entries.length + 1).padStart(9, '0');
    const lifetime = this.lifetimeSeconds ?? call.durationSeconds ?? 3600;
    const issued: Issued = {
      accessKeyId: `ASIASTANDIN${number}`,
      secretAccessKey: `${SECRET_MARK}/${number}/${roleName}`,
      sessionToken: `${TOKEN_MARK}/${number}/${call.roleArn}`,
      expiration: new Date((Math.floor(this.#now() / 1000) + lifetime) * 1000),
      call,
    };
    this.issued.add(issued);
    return issued;
  }

  #getCallerIdentity(call: StsCall): Answer {
    const [issued] = this.issued.all((one) => one.accessKeyId === call.accessKeyId);
    const role = parseRoleArn(issued?.call.roleArn ?? '');
    const session = issued?.call.roleSessionName ?? '';
    const [arn, account] = role === undefined
      ? [`arn:aws:iam::${ACCOUNT_ID}:user/base`, ACCOUNT_ID]
      : [assumedRoleArn(role, session), role.account];
    return success('GetCallerIdentity', STS_NAMESPACE, `
      <Arn>${escaped(arn)}</Arn>
      <UserId>${role === undefined ? 'AIDABASE' : `${roleId(role.name)}:${escaped(session)}`}</UserId>
      <Account>${account}</Account>`);
  }

  #getRole(call: StsCall): Answer {
    const name = call.roleName ?? '';
    const role = parseRoleArn(this.roleArns.get(name) ?? `arn:aws:iam::${ACCOUNT_ID}:role/${name}`);
    if (role === undefined) return failure(404, 'NoSuchEntity', `The role ${name} cannot be found.`);
    return success('GetRole', IAM_NAMESPACE, `
      <Role>
        <Path>${escaped(role.path)}</Path>
        <RoleName>${escaped(role.name)}</RoleName>
        <RoleId>${roleId(role.name)}</RoleId>
        <Arn>${escaped(role.arn)}</Arn>
        <CreateDate>2024-01-01T00:00:00Z</CreateDate>
        <AssumeRolePolicyDocument>%7B%7D</AssumeRolePolicyDocument>
        <MaxSessionDuration>3600</MaxSessionDuration>
      </Role>`);
  }
}

function parseCall(form: URLSearchParams, authorization: string): StsCall {
  const parameters = Object.fromEntries(form);
  const [, accessKeyId = '', region = ''] = /Credential=([^/]+)\/\d+\/([^/]+)\//.exec(authorization) ?? [];
  const values = (pattern: RegExp): string[] =>
    [...form].filter(([name]) => pattern.test(name)).map(([, value]) => value);
  const keys = values(/^Tags\.member\.\d+\.Key$/);
  const tagValues = values(/^Tags\.member\.\d+\.Value$/);
  const duration = parameters['DurationSeconds'];
  return {
    action: parameters['Action'] ?? '',
    roleArn: parameters['RoleArn'],
    roleSessionName: parameters['RoleSessionName'],
    externalId: parameters['ExternalId'],
    policy: parameters['Policy'],
    policyArns: values(/^PolicyArns\.member\.\d+\.arn$/),
    tags: Object.fromEntries(keys.map((key, index) => [key, tagValues[index] ?? ''])),
    transitiveTagKeys: values(/^TransitiveTagKeys\.member\.\d+$/),
    durationSeconds: duration === undefined ? undefined : Number(duration),
    sourceIdentity: parameters['SourceIdentity'],
    roleName: parameters['RoleName'],
    accessKeyId,
    region,
    parameters,
  };
}

interface Role {
  readonly arn: string;
  readonly partition: string;
  readonly account: string;
  /** "/" or "/path/". */
  readonly path: string;
  readonly name: string;
}

function parseRoleArn(arn: string): Role | undefined {
  const match = /^arn:(aws[\w-]*):iam::(\d{12}):role(\/(?:[!-~]+\/)?)([\w+=,.@-]{1,64})$/.exec(arn);
  if (match === null) return undefined;
  const [, partition = '', account = '', path = '', name = ''] = match;
  return { arn, partition, account, path, name };
}

function assumedRoleArn(role: Role, session: string): string {
  return `arn:${role.partition}:sts::${role.account}:assumed-role/${role.name}/${session}`;
}

/** A role ID in AWS's format that contains the role's name. */
function roleId(name: string): string {
  return `AROA${name.toUpperCase().replace(/[^A-Z0-9]/g, '').slice(0, 17).padEnd(17, 'X')}`;
}

function failureOf(fault: StsFault | undefined, call: StsCall): Answer | undefined {
  switch (fault?.kind) {
    case 'deny':
      return denial(call.roleArn);
    case 'throttle':
      return failure(400, 'Throttling', 'Rate exceeded');
    case 'expired-token':
      return failure(403, 'ExpiredToken', 'The security token included in the request is expired');
    case 'error':
      return failure(fault.status, fault.code, fault.message ?? 'a fault on demand');
    case 'malformed':
      return { status: 200, xml: 'this is <no & XML' };
    case 'body':
      return { status: 200, xml: fault.body };
    default:
      return undefined;
  }
}

function denial(roleArn: string | undefined): Answer {
  const user = `User: arn:aws:iam::${ACCOUNT_ID}:user/base`;
  return failure(403, 'AccessDenied', `${user} is not authorized to perform: sts:AssumeRole on ${roleArn}`);
}

function invalid(what: string): Answer {
  return failure(400, 'ValidationError', `1 validation error detected: ${what}`);
}

function success(action: string, namespace: string, result: string): Answer {
  const xml = `<${action}Response xmlns="${namespace}">
    <${action}Result>${result}
    </${action}Result>
    <ResponseMetadata>
      <RequestId>00000000-0000-4000-8000-000000000000</RequestId>
    </ResponseMetadata>
</${action}Response>
`;
  return { status: 200, xml };
}

function failure(status: number, code: string, message: string): Answer {
  const xml = `<ErrorResponse xmlns="${STS_NAMESPACE}">
  <Error>
    <Type>${status < 500 ? 'Sender' : 'Receiver'}</Type>
    <Code>${code}</Code>
    <Message>${escaped(message)}</Message>
  </Error>
  <RequestId>00000000-0000-4000-8000-000000000000</RequestId>
</ErrorResponse>
`;
  return { status, xml };
}

function escaped(text: string): string {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}

function isoSeconds(date: Date): string {
  return `${date.toISOString().slice(0, 19)}Z`;
}
