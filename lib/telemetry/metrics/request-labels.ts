/** The labels of go-metadataproxy's metrics, in the order in which statsd gets their values. */
export const REQUEST_LABELS = [
  'handler_name',
  'request_path',
  'api_version',
  'remote_addr',
  'role_name',
  'response_code',
  'error_description',
  'service',
] as const;
export type RequestLabel = (typeof REQUEST_LABELS)[number];
