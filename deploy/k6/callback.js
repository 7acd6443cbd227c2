// Load on POST /callback for teams that use k6. It needs an object source that answers: for example
//
//   client-service --rate 0                                  (only the simulated source)
//   k6 run -e TARGET=http://localhost:9090 -e RATE=200 -e DURATION=1m deploy/k6/callback.js
//
// Constant arrival rate is an open loop: k6 starts an iteration when it is due, whatever became of those before. Like a
// good sender it repeats the same body on 429, 503 and a failed connection, after Retry-After. At the end it reads the
// receipts of a sample. The full verdict (every acknowledged id was fetched after its POST) is client-service's: it sees
// what reaches the source, k6 does not.
import http from 'k6/http';
import { check, sleep } from 'k6';
import exec from 'k6/execution';
import { Counter, Rate, Trend } from 'k6/metrics';

const TARGET = __ENV.TARGET || 'http://localhost:9090';
const RATE = Number(__ENV.RATE || 200);
const DURATION = __ENV.DURATION || '1m';
const IDS_MAX = Number(__ENV.IDS_MAX || 200);
const ID_SPACE = Number(__ENV.ID_SPACE || 100);
const SETTLE_SECONDS = Number(__ENV.SETTLE_SECONDS || 15);
const ATTEMPTS = 8;
const WATCH_ONE_IN = 50; // callbacks whose receipt is followed

const acknowledged = new Counter('callbacks_acknowledged');
const unacknowledged = new Counter('callbacks_unacknowledged');
const accountedFor = new Rate('receipts_accounted_for');
const ack = new Trend('callback_ack', true);

// 429 and 503 are the contract's way to say "later", not failures of the test.
http.setResponseCallback(http.expectedStatuses({ min: 200, max: 299 }, 404, 429, 503));

export const options = {
  scenarios: {
    callbacks: {
      executor: 'constant-arrival-rate',
      rate: RATE,
      timeUnit: '1s',
      duration: DURATION,
      preAllocatedVUs: Math.max(20, Math.ceil(RATE / 4)),
      maxVUs: Math.max(100, RATE * 4),
      gracefulStop: `${SETTLE_SECONDS + 5}s`,
    },
  },
  thresholds: {
    callback_ack: ['p(99)<250'],
    callbacks_acknowledged: ['count>0'],
    callbacks_unacknowledged: ['count==0'],
    receipts_accounted_for: ['rate==1'],
    dropped_iterations: ['count==0'],
    http_req_failed: ['rate<0.001'],
  },
};

function body() {
  const ids = [];
  for (let n = Math.floor(Math.random() * (IDS_MAX + 1)); n > 0; n--) {
    ids.push(1 + Math.floor(Math.random() * ID_SPACE));
  }
  return { text: JSON.stringify({ object_ids: ids }), distinct: new Set(ids).size };
}

// Seconds to wait: what the service named, else exponential with full jitter.
function pause(response, attempt) {
  const named = Number(response.headers['Retry-After']);
  return named > 0 ? named : Math.random() * Math.min(5, 0.1 * 2 ** attempt);
}

function post(text) {
  let response;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    response = http.post(`${TARGET}/callback`, text, {
      headers: { 'Content-Type': 'application/json' },
      tags: { name: 'POST /callback' },
    });
    // Status 0 is a connection that failed: the outcome is unknown, so it is repeated.
    if (![0, 429, 503].includes(response.status)) return response;
    sleep(pause(response, attempt));
  }
  return response;
}

// A receipt is done when every id is accounted for.
function follow(id, distinct) {
  for (let waited = 0; waited < SETTLE_SECONDS; waited++) {
    const response = http.get(`${TARGET}/v1/callbacks/${id}`, { tags: { name: 'GET /v1/callbacks/{id}' } });
    if (response.status === 404) break;
    if (response.status === 200) {
      const r = response.json();
      if (r.status === 'done') {
        const sum = r.stored + r.missing + r.skipped + r.failed;
        accountedFor.add(r.objects === distinct && sum === distinct);
        return;
      }
    }
    sleep(1);
  }
  accountedFor.add(false);
}

export default function () {
  const { text, distinct } = body();
  const begun = Date.now();
  const response = post(text);
  // Any 2xx is an acknowledgement, whatever its body.
  const ok = check(response, { acknowledged: (r) => r.status >= 200 && r.status < 300 });
  if (!ok) {
    unacknowledged.add(1);
    return;
  }
  acknowledged.add(1);
  ack.add(Date.now() - begun);
  if (exec.scenario.iterationInTest % WATCH_ONE_IN === 0) {
    let id;
    try {
      id = response.json('callback_id');
    } catch (_) {
      return; // a service without receipts
    }
    if (id) follow(id, distinct);
  }
}
