// A proxy in front of moto. It forwards every request, can delay the answers, and records every AssumeRole from the requests
// and answers, independently of the proxy under test.
import { type IncomingMessage, type ServerResponse, createServer } from 'node:http';
import { MOTO_PORT, STS_FRONT_PORT } from '../ports.ts';
import { answerCalls } from '../side-program.ts';

/** One AssumeRole that STS granted. */
export interface AssumedRole {
  readonly roleArn: string;
  readonly sessionName: string;
  readonly externalId: string | undefined;
  /** The access key ID that signed the request: the proxy's source credentials. */
  readonly signedBy: string;
  /** The issued credentials. */
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string;
}

export interface StsFrontCalls {
  /** Delays all following answers by so many milliseconds. */
  delay(milliseconds: number): void;
  /** Every AssumeRole granted so far, in order. */
  assumedRoles(): AssumedRole[];
  /** Sends a query-protocol action to moto, to set up the lab. Returns the XML. */
  query(service: 'iam' | 'sts', parameters: Record<string, string>): Promise<string>;
}

const MOTO = `http://127.0.0.1:${MOTO_PORT}/`;

let delay = 0;
const assumed: AssumedRole[] = [];

async function relay(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const body = Buffer.concat(chunks).toString();
  const headers = new Headers();
  for (const name of ['authorization', 'content-type', 'x-amz-date', 'x-amz-security-token', 'user-agent']) {
    const value = request.headers[name];
    if (typeof value === 'string') headers.set(name, value);
  }
  const answer = await fetch(MOTO, { method: 'POST', headers, body });
  const text = await answer.text();
  record(new URLSearchParams(body), headers.get('authorization') ?? '', text);
  if (delay > 0) await new Promise((resolve) => setTimeout(resolve, delay));
  response.writeHead(answer.status, { 'Content-Type': answer.headers.get('content-type') ?? 'text/xml' });
  response.end(text);
}

function record(parameters: URLSearchParams, authorization: string, xml: string): void {
  const accessKeyId = element(xml, 'AccessKeyId');
  if (parameters.get('Action') !== 'AssumeRole' || accessKeyId === '') return;
  assumed.push({
    roleArn: parameters.get('RoleArn') ?? '',
    sessionName: parameters.get('RoleSessionName') ?? '',
    externalId: parameters.get('ExternalId') ?? undefined,
    signedBy: /Credential=([^/]*)/.exec(authorization)?.[1] ?? '',
    accessKeyId,
    secretAccessKey: element(xml, 'SecretAccessKey'),
    sessionToken: element(xml, 'SessionToken'),
  });
}

function element(xml: string, name: string): string {
  return new RegExp(`<${name}>([^<]*)</${name}>`).exec(xml)?.[1] ?? '';
}

const server = createServer((request, response) => {
  relay(request, response).catch((error: unknown) => {
    response.writeHead(502).end(String(error));
  });
});
server.listen(STS_FRONT_PORT, '127.0.0.1', () => {
  answerCalls<StsFrontCalls>({
    delay(milliseconds) {
      delay = milliseconds;
    },
    assumedRoles: () => assumed,
    async query(service, parameters) {
      const answer = await fetch(MOTO, {
        method: 'POST',
        headers: {
          'Content-Type': 'application/x-www-form-urlencoded',
          Authorization: `AWS4-HMAC-SHA256 Credential=AKIALAB/20260101/us-east-1/${service}/aws4_request, ` +
            'SignedHeaders=host, Signature=0',
        },
        body: new URLSearchParams(parameters).toString(),
      });
      const xml = await answer.text();
      if (!answer.ok) throw new Error(`moto answered ${answer.status}: ${xml}`);
      return xml;
    },
  });
});
