import type { Container } from '../docker/container.ts';
import type { AnswerListener } from '../http/server.ts';
import type { Activity } from './request-history.ts';
import type { Health } from '../log/dependency-health.ts';
import type { Troubles } from '../log/recent-errors.ts';
import { UpstreamTimeout, UpstreamUnreachable } from '../imds/client.ts';

export interface AnswerWatch {
  activity: Activity;
  /** How the real metadata service does. */
  upstream: Health;
  troubles: Troubles;
  /** The container behind an address, as far as it is known at once. */
  peek: (address: string) => Container | undefined;
}

/** From an answer to what an operator is shown of it. */
export function answerWatch({ activity, upstream, troubles, peek }: AnswerWatch): AnswerListener {
  return (exchange, found, failure, seconds) => {
    const { address, began, response } = exchange;
    const container = exchange.container ?? peek(address);
    const at = began + seconds * 1000;
    if (failure === undefined) {
      // Nothing is sent to a caller that has left at once.
      if (found?.kind === 'pass-through' && response.headersSent) upstream.worked();
      activity.note(container, 'served', at, seconds);
      return;
    }
    const error = failure instanceof Error ? failure.message : String(failure);
    const isRefusal = response.statusCode >= 400 && response.statusCode < 500;
    activity.note(container, isRefusal ? 'refused' : 'failed', at, seconds, error);
    if (failure instanceof UpstreamUnreachable || failure instanceof UpstreamTimeout) {
      upstream.failed(error);
      troubles.tell('warning', 'the metadata service does not answer', '', { error, request_id: exchange.id });
    }
  };
}
