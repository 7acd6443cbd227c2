// Command client calls every route of a running service, at the base URL in the first argument, with the client that oapi-codegen makes of
// openapi.json.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"path"
	"regexp"
	"strings"
	"time"

	"client/api"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx, os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, url string) error {
	calls := &recorder{}
	c, err := api.NewClientWithResponses(url, api.WithHTTPClient(calls))
	if err != nil {
		return err
	}
	for _, part := range []func(context.Context, *api.ClientWithResponses) error{callbacks, objects, events, health} {
		if err := part(ctx, c); err != nil {
			return err
		}
	}
	return calls.complete(ctx, c)
}

// answer is what every answer of the generated client is.
type answer interface {
	StatusCode() int
	GetBody() []byte
}

// want fails for another status.
func want[A answer](status int, a A, err error) (A, error) {
	if err == nil && a.StatusCode() != status {
		err = fmt.Errorf("%T: status %d, want %d: %s", a, a.StatusCode(), status, a.GetBody())
	}
	return a, err
}

func ptr[T any](v T) *T { return &v }

func callbacks(ctx context.Context, c *api.ClientWithResponses) error {
	body := api.Callback{ObjectIds: []api.ObjectID{1, 2, 3, 9007199254740993}, Tag: ptr("Go")}
	posted, err := c.PostCallbackWithResponse(ctx, nil, body)
	if posted, err = want(http.StatusAccepted, posted, err); err != nil {
		return err
	}
	receipt, err := done(ctx, c, posted.JSON202.CallbackId)
	if err != nil {
		return err
	}
	if receipt.Stored != 4 {
		return fmt.Errorf("the receipt: %+v", receipt)
	}
	key := &api.PostCallbackV1Params{IdempotencyKey: ptr("go")}
	for _, duplicate := range []bool{false, true} {
		a, err := c.PostCallbackV1WithResponse(ctx, key, body)
		if a, err = want(http.StatusAccepted, a, err); err != nil {
			return err
		}
		if (a.JSON202.Duplicate != nil) != duplicate {
			return fmt.Errorf("the repeat: %s", a.Body)
		}
		if _, err := done(ctx, c, a.JSON202.CallbackId); err != nil {
			return err
		}
	}
	refused, err := c.PostCallbackV1WithResponse(ctx, key, api.Callback{ObjectIds: []api.ObjectID{}})
	if refused, err = want(http.StatusUnprocessableEntity, refused, err); err != nil {
		return err
	}
	if code := refused.ApplicationproblemJSON422.Code; code != api.ProblemCodeIdempotencyConflict {
		return fmt.Errorf("the conflict has the code %s", code)
	}
	list, err := c.ListReceiptsWithResponse(ctx, &api.ListReceiptsParams{Tag: ptr("go"), Status: ptr(api.StatusDone), Limit: ptr(10)})
	if list, err = want(http.StatusOK, list, err); err != nil {
		return err
	}
	if len(*list.JSON200.Callbacks) != 2 {
		return fmt.Errorf("the list: %s", list.Body)
	}
	return nil
}

// done waits until a callback is.
func done(ctx context.Context, c *api.ClientWithResponses, id string) (*api.Receipt, error) {
	for {
		a, err := c.GetReceiptWithResponse(ctx, id)
		if a, err = want(http.StatusOK, a, err); err != nil {
			return nil, err
		}
		if a.JSON200.Status == api.StatusDone {
			return a.JSON200, nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func objects(ctx context.Context, c *api.ClientWithResponses) error {
	a, err := c.GetObjectWithResponse(ctx, 9007199254740993)
	if a, err = want(http.StatusOK, a, err); err != nil {
		return err
	}
	if a.JSON200.Id != 9007199254740993 {
		return fmt.Errorf("the object: %s", a.Body)
	}
	missing, err := c.GetObjectWithResponse(ctx, 99)
	if missing, err = want(http.StatusNotFound, missing, err); err != nil {
		return err
	}
	if code := missing.ApplicationproblemJSON404.Code; code != api.ProblemCodeNotFound {
		return fmt.Errorf("what is missing has the code %s", code)
	}
	list, err := c.ListObjectsWithResponse(ctx, &api.ListObjectsParams{Online: ptr(true), After: ptr("1"), Limit: ptr(1)})
	if list, err = want(http.StatusOK, list, err); err != nil {
		return err
	}
	if len(list.JSON200.Objects) != 1 || list.JSON200.Objects[0].Id != 2 {
		return fmt.Errorf("the list: %s", list.Body)
	}
	return nil
}

// events opens the WebSocket.
func events(ctx context.Context, c *api.ClientWithResponses) error {
	upgrade := func(_ context.Context, r *http.Request) error {
		for name, value := range map[string]string{
			"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
		} {
			r.Header.Set(name, value)
		}
		return nil
	}
	response, err := c.ClientInterface.WatchEvents(ctx, &api.WatchEventsParams{Type: ptr("stats")}, upgrade)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("the feed: %s", response.Status)
	}
	return response.Body.Close()
}

func health(ctx context.Context, c *api.ClientWithResponses) error {
	root, err := c.GetRootWithResponse(ctx)
	if _, err = want(http.StatusOK, root, err); err != nil {
		return err
	}
	live, err := c.GetLivezWithResponse(ctx)
	if _, err = want(http.StatusOK, live, err); err != nil {
		return err
	}
	ready, err := c.GetReadyzWithResponse(ctx)
	if _, err = want(http.StatusOK, ready, err); err != nil {
		return err
	}
	page, err := c.GetDocsWithResponse(ctx)
	if _, err = want(http.StatusOK, page, err); err != nil {
		return err
	}
	file, err := c.GetDocsFileWithResponse(ctx, "start.js")
	_, err = want(http.StatusOK, file, err)
	return err
}

// recorder notes what was called.
type recorder struct{ calls []string }

func (r *recorder) Do(request *http.Request) (*http.Response, error) {
	r.calls = append(r.calls, request.Method+" "+request.URL.Path)
	return http.DefaultClient.Do(request)
}

// complete asks the service for its routes and fails when one of them was not called.
func (r *recorder) complete(ctx context.Context, c *api.ClientWithResponses) error {
	a, err := c.GetOpenAPIWithResponse(ctx)
	if a, err = want(http.StatusOK, a, err); err != nil {
		return err
	}
	var document struct {
		Paths map[string]map[string]any
	}
	if err := json.Unmarshal(a.Body, &document); err != nil {
		return err
	}
	for route, operations := range document.Paths {
		for method := range operations {
			if !r.called(strings.ToUpper(method) + " " + route) {
				return fmt.Errorf("%s %s was not called", method, route)
			}
		}
	}
	return nil
}

var parameter = regexp.MustCompile(`\{[a-z]+\}`)

func (r *recorder) called(route string) bool {
	pattern := parameter.ReplaceAllString(route, "*")
	for _, call := range r.calls {
		if ok, _ := path.Match(pattern, call); ok {
			return true
		}
	}
	return false
}
