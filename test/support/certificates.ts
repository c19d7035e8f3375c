import { generateKeyPairSync, sign, type KeyObject } from 'node:crypto';

/** A certificate and its key, both PEM. */
export interface Certificate {
  readonly cert: string;
  readonly key: string;
}

/** For a TLS test: a server on 127.0.0.1, a client, and the authority that signed both. */
export interface Certificates {
  /** The authority's certificate, PEM. */
  readonly ca: string;
  readonly server: Certificate;
  readonly client: Certificate;
}

/**
 * Makes an authority and two certificates, valid for a day, such as DOCKER_CERT_PATH's ca.pem, cert.pem and key.pem.
 * Encodes DER (RFC 5280) itself, because Node makes keys and signatures but no certificates.
 */
export function makeCertificates(now = new Date()): Certificates {
  const authority = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const issue = (subject: string, key: KeyObject, extensions: Buffer[]): string => {
    const validity = [now.getTime() - 3_600_000, now.getTime() + 86_400_000].map(utcTime);
    const content = sequence(
      tagged(0xa0, integer(2)), integer(serial += 1), ECDSA_WITH_SHA256, name('test authority'),
      sequence(...validity), name(subject), key.export({ type: 'spki', format: 'der' }),
      tagged(0xa3, sequence(...extensions)),
    );
    const signature = sign('sha256', content, authority.privateKey);
    return pem(sequence(content, ECDSA_WITH_SHA256, tagged(0x03, Buffer.from([0]), signature)));
  };
  const leaf = (subject: string): Certificate => {
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const cert = issue(subject, publicKey, [LOOPBACK_NAMES]);
    return { cert, key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString() };
  };
  let serial = 0;
  const ca = issue('test authority', authority.publicKey, [IS_AUTHORITY]);
  return { ca, server: leaf('test server'), client: leaf('test client') };
}

function tagged(tag: number, ...items: Buffer[]): Buffer {
  const content = Buffer.concat(items);
  return Buffer.concat([Buffer.from([tag, ...sizeOf(content.length)]), content]);
}

function sizeOf(length: number): number[] {
  if (length < 0x80) return [length];
  return length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
}

function sequence(...items: Buffer[]): Buffer {
  return tagged(0x30, ...items);
}

function integer(value: number): Buffer {
  return tagged(0x02, Buffer.from([value]));
}

/** An object identifier, given as its encoded bytes. */
function identifier(hex: string): Buffer {
  return tagged(0x06, Buffer.from(hex, 'hex'));
}

function name(commonName: string): Buffer {
  const attribute = sequence(identifier('550403'), tagged(0x0c, Buffer.from(commonName)));
  return sequence(tagged(0x31, attribute));
}

function utcTime(at: number): Buffer {
  const digits = new Date(at).toISOString().replace(/\D/g, '');
  return tagged(0x17, Buffer.from(`${digits.slice(2, 14)}Z`));
}

function extension(id: string, critical: boolean, value: Buffer): Buffer {
  const flag = critical ? [tagged(0x01, Buffer.from([0xff]))] : [];
  return sequence(identifier(id), ...flag, tagged(0x04, value));
}

function pem(der: Buffer): string {
  const lines = der.toString('base64').replace(/.{64}/g, '$&\n');
  return `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`;
}

const ECDSA_WITH_SHA256 = sequence(identifier('2a8648ce3d040302'));
/** basicConstraints: cA. */
const IS_AUTHORITY = extension('551d13', true, sequence(tagged(0x01, Buffer.from([0xff]))));
/** subjectAltName: localhost and 127.0.0.1. */
const LOOPBACK_NAMES = extension('551d11', false, sequence(
  tagged(0x82, Buffer.from('localhost')), tagged(0x87, Buffer.from([127, 0, 0, 1])),
));
