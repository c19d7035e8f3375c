import { readFileSync } from 'node:fs';
import type { RequestOptions } from 'node:https';
import { join } from 'node:path';

/** The address of the Docker Engine API. With `tls` it is HTTPS. */
export type DockerEndpoint =
  | { readonly kind: 'unix'; readonly socketPath: string; readonly url: string }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number; readonly tls?: TlsFiles; readonly url: string };

export type TlsFiles = Readonly<Pick<RequestOptions, 'ca' | 'cert' | 'key'>>;

const DEFAULT_TCP_PORT = 2375;
const DEFAULT_TLS_PORT = 2376;

/**
 * Accepts `unix:///run/docker.sock`, the older proxies' `unix://var/run/docker.sock` (meaning the absolute path), a bare
 * absolute path, `tcp://host:port`, `http://…` and `https://…`.
 *
 * @returns undefined for anything else
 */
export function parseDockerEndpoint(text: string): DockerEndpoint | undefined {
  const unix = /^(?:unix:\/\/|(?=\/))\/*([^/].*)$/.exec(text)?.[1];
  if (unix !== undefined) return { kind: 'unix', socketPath: `/${unix}`, url: `unix:///${unix}` };

  const scheme = /^(tcp|http|https):\/\//.exec(text)?.[1];
  // URL checks host and port only for schemes that it knows.
  const asHttp = text.replace(/^[a-z]+:/, 'http:');
  if (scheme === undefined || !URL.canParse(asHttp)) return undefined;
  const url = new URL(asHttp);
  if (url.hostname === '' || url.username !== '' || url.search !== '' || url.pathname !== '/') return undefined;
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const explicit = /:(\d+)\/?$/.exec(text)?.[1];
  const port = Number(explicit ?? (scheme === 'https' ? DEFAULT_TLS_PORT : DEFAULT_TCP_PORT));
  return { kind: 'tcp', host, port, url: text, ...(scheme === 'https' ? { tls: {} } : {}) };
}

/**
 * Reads `ca.pem`, `cert.pem` and `key.pem`, as Docker's own client does with DOCKER_CERT_PATH.
 *
 * @throws the file system's error, which names the file
 */
export function readTlsFiles(directory: string): TlsFiles {
  const read = (name: string): Buffer => readFileSync(join(directory, name));
  return { ca: read('ca.pem'), cert: read('cert.pem'), key: read('key.pem') };
}
