// Spellings of the path of the host's credentials, or of paths nearby, that a proxy may fail to recognise and forward.
// Strings contain the bytes of the request target as latin1. No target has a regular answer for a container without a role.

const CREDENTIALS = '/latest/meta-data/iam/security-credentials';

/** Targets, each for a GET. */
export const ODD_TARGETS: readonly string[] = [
  // Plain: every endpoint with the host's identity
  '/latest/meta-data/iam',
  '/latest/meta-data/iam/',
  '/latest/meta-data/iam/info',
  CREDENTIALS,
  `${CREDENTIALS}/`,
  `${CREDENTIALS}/HOSTSECRET-role`,
  `${CREDENTIALS}-extended`,
  `${CREDENTIALS}-extended/`,
  `${CREDENTIALS}-extended/HOSTSECRET-role`,
  '/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance',
  '/latest/meta-data/identity-credentials/ec2/info',
  '/latest/meta-data/identity-credentials',
  '/latest/meta-data/iam/a-future-endpoint',
  // Other versions
  '/1.0/meta-data/iam/security-credentials/',
  '/2009-04-04/meta-data/iam/security-credentials/',
  '/2012-01-12/meta-data/iam/security-credentials/HOSTSECRET-role',
  '/2021-07-15/meta-data/identity-credentials/ec2/security-credentials/ec2-instance',
  '/LATEST/meta-data/iam/security-credentials/',
  '/latest./meta-data/iam/security-credentials/',
  '/meta-data/iam/security-credentials/',
  '/x/y/meta-data/iam/security-credentials/',
  // Trailing junk
  `${CREDENTIALS}/HOSTSECRET-role/`,
  `${CREDENTIALS}/HOSTSECRET-role/more/of/it`,
  `${CREDENTIALS}/HOSTSECRET-role//`,
  `${CREDENTIALS}/HOSTSECRET-role/..`,
  `${CREDENTIALS}/HOSTSECRET-role%20`,
  `${CREDENTIALS}/HOSTSECRET-role.`,
  // Slashes
  '//latest/meta-data/iam/security-credentials/',
  '/latest//meta-data///iam////security-credentials/',
  '/latest/meta-data//iam/info',
  '/latest%2fmeta-data%2fiam%2fsecurity-credentials%2f',
  '/latest/meta-data%2Fiam/security-credentials/',
  '/latest/meta-data/iam%2fsecurity-credentials%2fHOSTSECRET-role',
  '/latest\\meta-data\\iam\\security-credentials\\',
  '/latest/meta-data/iam%5csecurity-credentials%5c',
  '/latest/meta-data/%2f/iam/security-credentials/',
  '/latest/meta-data/iam%c0%afsecurity-credentials/',
  '/latest/meta-data%c0%afiam/security-credentials/',
  '/latest/meta-data/\xef\xbc\x8fiam/security-credentials/',
  // Dot segments
  '/latest/./meta-data/./iam/./security-credentials/',
  '/latest/user-data/../meta-data/iam/security-credentials/',
  '/latest/meta-data/instance-id/../iam/security-credentials/HOSTSECRET-role',
  '/latest/meta-data/%2e/iam/security-credentials/',
  '/latest/meta-data/instance-id/%2e%2e/iam/security-credentials/',
  '/latest/meta-data/instance-id/.%2e/iam/security-credentials/',
  '/latest/meta-data/instance-id/..%2fiam/security-credentials/',
  '/latest/meta-data/instance-id%2f..%2fiam%2finfo',
  '/../latest/meta-data/iam/security-credentials/',
  '/../../../../latest/meta-data/iam/info',
  '/latest/meta-data/x/y/../../iam/security-credentials/',
  '/latest/meta-data/instance-id/..;/iam/security-credentials/',
  '/latest/meta-data/..././iam/security-credentials/',
  '/v2/credentials/../../latest/meta-data/iam/security-credentials/',
  '/latest/api/token/../../meta-data/iam/security-credentials/',
  '/latest/dynamic/..%5c..%5clatest/meta-data/iam/security-credentials/',
  // Encoded letters, once and more
  '/latest/meta-data/%69am/security-credentials/',
  '/latest/meta-data/i%61%6D/security-credentials/HOSTSECRET-role',
  '/latest/%6d%65%74%61-data/iam/security-credentials/',
  '/%6c%61%74%65%73%74/meta-data/iam/security-credentials/',
  '/latest/meta-data/iam/security%2dcredentials/',
  '/latest/meta-data/iam/security-credentials%2dextended/',
  '/latest/meta-data/identity%2Dcredentials/ec2/security-credentials/ec2-instance',
  '/latest/meta-data/%2569am/security-credentials/',
  '/latest/meta-data/%25%36%39am/security-credentials/',
  '/latest/meta-data/instance-id/%252e%252e/iam/security-credentials/',
  '/latest/meta-data%252fiam%252fsecurity-credentials%252f',
  '/latest/meta-data/%u0069am/security-credentials/',
  '/latest/meta-data/iam%/security-credentials/',
  '/latest/meta-data/%6/iam/security-credentials/',
  // Case
  '/latest/meta-data/IAM/security-credentials/',
  '/latest/meta-data/Iam/Security-Credentials/HOSTSECRET-role',
  '/Latest/Meta-Data/iam/info',
  '/LATEST/META-DATA/IAM/SECURITY-CREDENTIALS/',
  '/latest/meta-data/Identity-Credentials/ec2/security-credentials/ec2-instance',
  '/latest/meta-data/%49%41%4D/security-credentials/',
  // Parameters, queries, fragments
  '/latest/meta-data/iam;x=1/security-credentials/',
  '/latest/meta-data;a/iam;b/security-credentials;c/HOSTSECRET-role;d',
  '/latest;/meta-data/iam/security-credentials/',
  `${CREDENTIALS}/?x=1`,
  `${CREDENTIALS}/HOSTSECRET-role?/../../instance-id`,
  `${CREDENTIALS}/HOSTSECRET-role??`,
  '/latest/meta-data/iam%3f/security-credentials/',
  `${CREDENTIALS}/#/../../instance-id`,
  '/latest/meta-data/iam#/security-credentials/',
  '/latest/meta-data/iam%23/security-credentials/',
  // Bytes that end or split a path in some server
  '/latest/meta-data/iam%00/security-credentials/',
  `${CREDENTIALS}/HOSTSECRET-role%00.txt`,
  '/latest/meta-data/iam%0d%0a/security-credentials/',
  '/latest/meta-data/iam%09/security-credentials/',
  '/latest/meta-data/%20iam/security-credentials/',
  '/latest/meta-data/iam%20/security-credentials/',
  '/latest/meta-data/iam./security-credentials/',
  '/latest/meta-data/iam%7f/security-credentials/',
  '/latest/meta-data/instance-id%20HTTP/1.1%0d%0aHost:%20x%0d%0a%0d%0aGET%20/latest/meta-data/iam/info',
  '/latest/meta-data/i\xc3\xa0m/../iam/security-credentials/',
  // Not a path
  'http://169.254.169.254/latest/meta-data/iam/security-credentials/',
  'http://169.254.169.254/latest/meta-data/iam/security-credentials/HOSTSECRET-role',
  'HTTP://169.254.169.254:80/latest/meta-data/iam/info',
  'http://user@169.254.169.254/latest/meta-data/iam/security-credentials/',
  'http:/latest/meta-data/iam/security-credentials/',
  'http://169.254.169.254\\@x/latest/meta-data/iam/security-credentials/',
  'file:///latest/meta-data/iam/security-credentials/',
  '//169.254.169.254/latest/meta-data/iam/security-credentials/',
  'latest/meta-data/iam/security-credentials/',
  '*/latest/meta-data/iam/security-credentials/',
  '169.254.169.254:80/latest/meta-data/iam/security-credentials/',
  '?/latest/meta-data/iam/security-credentials/',
];

/** A complete request for a target. */
export function requestFor(target: string): string {
  return `GET ${target} HTTP/1.1\r\nHost: 169.254.169.254\r\nConnection: close\r\n\r\n`;
}

const PLAIN = `${CREDENTIALS}/HOSTSECRET-role`;
const HARMLESS = '/latest/meta-data/instance-id';

/** A request with Host and these headers, which closes the connection. */
function request(line: string, ...headers: string[]): string {
  return `${[line, 'Host: 169.254.169.254', 'Connection: close', ...headers].join('\r\n')}\r\n\r\n`;
}

/** The start of a harmless request, which keeps the connection open. */
function harmless(...headers: string[]): string {
  return `${[`GET ${HARMLESS} HTTP/1.1`, 'Host: 169.254.169.254', ...headers].join('\r\n')}\r\n\r\n`;
}

const SECOND = requestFor(PLAIN);

/** Requests that are odd outside the target, as latin1 bytes. */
export const ODD_REQUESTS: readonly string[] = [
  // Other methods and versions
  request(`HEAD ${PLAIN} HTTP/1.1`),
  request(`POST ${PLAIN} HTTP/1.1`, 'Content-Length: 0'),
  request(`PUT ${PLAIN} HTTP/1.1`, 'Content-Length: 0'),
  request(`OPTIONS ${PLAIN} HTTP/1.1`),
  request(`PROPFIND ${PLAIN} HTTP/1.1`),
  request('CONNECT 169.254.169.254:80 HTTP/1.1') + SECOND,
  request(`GET ${PLAIN} HTTP/2.0`),
  `GET ${PLAIN} HTTP/1.0\r\n\r\n`,
  `GET ${PLAIN}\r\n\r\n`,
  // Headers that claim another client, method or target
  request(`GET ${PLAIN} HTTP/1.1`, 'X-Forwarded-For: 127.0.0.1', 'Forwarded: for=127.0.0.1'),
  request(`GET ${PLAIN} HTTP/1.1`, 'X-HTTP-Method-Override: PUT'),
  request(`GET ${HARMLESS} HTTP/1.1`, `X-Original-URL: ${PLAIN}`, `X-Rewrite-URL: ${PLAIN}`),
  request(`GET ${HARMLESS} HTTP/1.1`, 'X-Folded: a', ' b'),
  `GET ${HARMLESS} HTTP/1.1\r\nHost: x${PLAIN}\r\nConnection: close\r\n\r\n`,
  // A second request after the first one, or inside its body
  harmless() + SECOND,
  harmless('Connection: Upgrade', 'Upgrade: h2c') + SECOND,
  harmless(`Content-Length: ${SECOND.length}`) + SECOND,
  harmless('Transfer-Encoding: chunked') + `${SECOND.length.toString(16)}\r\n${SECOND}\r\n0\r\n\r\n`,
  harmless('Content-Length: 5', 'Transfer-Encoding: chunked') + `0\r\n\r\n${SECOND}`,
  // Unusual line syntax
  `GET ${PLAIN} HTTP/1.1\nHost: x\nConnection: close\n\n`,
  `\r\n\r\n${SECOND}`,
  request(`GET  ${PLAIN}  HTTP/1.1`),
  request(`GET\t${PLAIN}\tHTTP/1.1`),
];
