import { request } from 'node:http';

export interface TextAnswer {
  readonly status: number;
  readonly text: string;
}

/**
 * Fetches a small text.
 *
 * @param timeout milliseconds for the whole request
 * @param maxLength in characters
 * @throws the connection's error, or an Error if the answer is too long or too slow
 */
export function httpGet(url: URL, timeout: number, maxLength: number): Promise<TextAnswer> {
  return new Promise((resolve, reject) => {
    const outgoing = request(url, { signal: AbortSignal.timeout(timeout) }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
        if (text.length > maxLength) response.destroy(new Error(`the answer is longer than ${maxLength} characters`));
      });
      response.on('error', reject);
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
    });
    outgoing.on('error', reject);
    outgoing.end();
  });
}
