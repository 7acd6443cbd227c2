// Calls every route of a running service, at the base URL in the first argument, with the types that openapi-typescript makes of openapi.json.
import createClient from 'openapi-fetch';
import type { components, paths } from './api.js';

declare const process: { argv: string[] };

const client = createClient<paths>({ baseUrl: process.argv[2] ?? '' });
const called = new Set<string>();
client.use({ onRequest: ({ request, schemaPath }) => void called.add(`${request.method} ${schemaPath}`) });

type Problem = components['schemas']['Problem'];
type Answer<T, E> = { data?: T; error?: E; response: Response };

function ok<T>({ data, error, response }: Answer<T, unknown>): T {
  if (data === undefined) throw new Error(`${response.url}: ${response.status} ${JSON.stringify(error)}`);
  return data;
}

function refused(want: Problem['code'], { error, response }: Answer<unknown, Problem>) {
  if (error?.code !== want) throw new Error(`${response.url}: ${response.status} ${JSON.stringify(error)}, want ${want}`);
}

function equal<T>(got: T, want: T) {
  if (got !== want) throw new Error(`got ${got}, want ${want}`);
}

async function done(id: string): Promise<components['schemas']['Receipt']> {
  for (const deadline = Date.now() + 60_000; Date.now() < deadline; await new Promise((resolve) => setTimeout(resolve, 50))) {
    const receipt = ok(await client.GET('/v1/callbacks/{id}', { params: { path: { id } } }));
    if (receipt.status === 'done') return receipt;
  }
  throw new Error(`callback ${id} is not done`);
}

const body = { object_ids: [11, 12, 13], tag: 'TypeScript' };
const accepted = ok(await client.POST('/callback', { body }));
equal(accepted.objects, 3);
equal((await done(accepted.callback_id)).stored, 3);
const header = { 'Idempotency-Key': 'typescript' };
const first = ok(await client.POST('/v1/callbacks', { params: { header }, body }));
const again = ok(await client.POST('/v1/callbacks', { params: { header }, body }));
equal(again.duplicate, true);
equal(again.callback_id, first.callback_id);
refused('idempotency_conflict', await client.POST('/v1/callbacks', { params: { header }, body: { object_ids: [] } }));
await done(first.callback_id);

equal(ok(await client.GET('/v1/callbacks', { params: { query: { tag: 'typescript', status: 'done', limit: 1 } } })).callbacks?.length, 1);
equal(ok(await client.GET('/v1/callbacks', { params: { query: { tag: 'typescript', count: '1' } } })).count, 2);
equal(ok(await client.GET('/v1/objects/{id}', { params: { path: { id: 12 } } })).online, true);
refused('not_found', await client.GET('/v1/objects/{id}', { params: { path: { id: 99 } } }));
equal(ok(await client.GET('/v1/objects', { params: { query: { online: true, after: '11', limit: 1 } } })).objects[0]?.id, 12);
refused('invalid_parameter', await client.GET('/v1/events', { params: { query: { type: 'stats' } } })); // fetch opens no WebSocket

equal(ok(await client.GET('/')).status, 'ok');
equal(ok(await client.GET('/livez')).status, 'ok');
equal(ok(await client.GET('/readyz')).status, 'ok');
ok(await client.GET('/docs', { parseAs: 'text' }));
ok(await client.GET('/docs/{file}', { params: { path: { file: 'start.js' } }, parseAs: 'text' }));

const document = ok(await client.GET('/openapi.json')) as { paths: Record<string, Record<string, unknown>> };
for (const [path, operations] of Object.entries(document.paths)) {
  for (const method of Object.keys(operations)) {
    if (!called.has(`${method.toUpperCase()} ${path}`)) throw new Error(`${method} ${path} was not called`);
  }
}
