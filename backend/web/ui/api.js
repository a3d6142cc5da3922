// REST: JSON in, JSON out; a refusal becomes an ApiError with the server's reason (RFC 9457).

const TIMEOUT_MS = 12_000;

export class ApiError extends Error {
  /** status 0: no answer at all. */
  constructor(status, reason, detail, retrySeconds = 0) {
    super(detail || reason || `HTTP ${status}`);
    this.status = status;
    this.reason = reason;
    this.retrySeconds = retrySeconds;
  }
}

/** api('/api/…', { method, body, token, query }) → parsed JSON (null for 204). */
export async function api(path, { method, body, token, query, headers = {} } = {}) {
  const url = new URL(path, location.origin);
  for (const [name, value] of Object.entries(query ?? {})) if (value !== undefined && value !== '') url.searchParams.set(name, value);
  let response;
  try {
    response = await fetch(url, {
      method: method ?? (body === undefined ? 'GET' : 'POST'),
      headers: {
        Accept: 'application/json',
        ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
        ...(token ? { Authorization: `Bearer ${token}` } : {}), ...headers,
      },
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: 'omit', cache: 'no-store', signal: AbortSignal.timeout?.(TIMEOUT_MS),
    });
  } catch (cause) {
    throw new ApiError(0, 'unreachable', String(cause));
  }
  const json = /json/.test(response.headers.get('Content-Type') ?? '') ? await response.json().catch(() => null) : null;
  if (!response.ok) throw new ApiError(response.status, json?.reason ?? '', json?.detail ?? json?.title, Number(response.headers.get('Retry-After')) || 0);
  return json;
}
