package simulate

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
)

// sectorSize is what a disk writes whole or not at all. What lies in a sector that was not synced may be
// lost on its own, whatever its neighbours do.
const sectorSize = 512

// disk holds what a machine keeps while processes come and go: each file as processes see it, and what a
// loss of power would leave of it.
//
// A file's sync makes its content durable, but not its name: only a sync of the folder does that, as
// POSIX has it. SQLite's own promise, that a sync of a new WAL syncs the folder too, is not kept here,
// because the VFS that the service is built with does not keep it.
type disk struct {
	mu       sync.Mutex // held for no longer than it takes to copy bytes
	files    map[string]*inode
	unlinked map[string]*inode // whose name is durable, and was removed, and the removal is not durable
	owned    map[string]bool   // inboxes that a process has open, by path
	random   *rand.Rand
	faults   *faults

	syncLies bool // syncs return at once and do nothing: what a broken disk does, and must be noticed
	// namesLast: names are durable as soon as they are made.
	namesLast bool
	capacity  int64 // in bytes
}

type inode struct {
	data    []byte
	synced  int64            // the durable size
	before  map[int64][]byte // the durable content of sectors that were written since, by number
	earlier map[int64][]byte // what was durable before that
	durable bool             // the name is
	was     string           // the durable name, if the file was given another that is not durable yet
}

func newDisk(random *rand.Rand, f *faults) *disk {
	return &disk{
		files: map[string]*inode{}, unlinked: map[string]*inode{}, owned: map[string]bool{},
		random: random, faults: f, capacity: 1 << 40,
	}
}

// keep remembers the durable content of the sectors from one offset to another, before they change.
func (n *inode) keep(from, to int64) {
	for s := from / sectorSize; s*sectorSize < to; s++ {
		if _, kept := n.before[s]; kept {
			continue
		}
		start := s * sectorSize
		if end := min(start+sectorSize, n.synced, int64(len(n.data))); end > start {
			n.before[s] = slices.Clone(n.data[start:end])
		} else {
			n.before[s] = nil
		}
	}
}

func (n *inode) sync() {
	n.synced = int64(len(n.data))
	if n.earlier == nil {
		n.earlier = map[int64][]byte{}
	}
	maps.Copy(n.earlier, n.before)
	clear(n.before)
}

// powerLoss leaves of each file what was synced, and of the rest what chance has it. The draw of how
// much survives is made once, since real losses of power tend to take nearly all or nearly nothing.
func (d *disk) powerLoss() {
	d.mu.Lock()
	defer d.mu.Unlock()
	survives := []float64{0, 0.1, 0.5, 0.9, 1}[d.random.IntN(5)]
	lucky := func() bool { return d.random.Float64() < survives }
	for _, name := range slices.Sorted(maps.Keys(d.unlinked)) {
		if again, ok := d.files[name]; (!ok || !again.durable) && !lucky() {
			d.files[name] = d.unlinked[name]
		}
	}
	clear(d.unlinked)
	clear(d.owned)
	for _, name := range slices.Sorted(maps.Keys(d.files)) {
		n := d.files[name]
		if !n.durable && !lucky() {
			delete(d.files, name)
			if n.was == "" {
				continue
			}
			d.files[n.was] = n // its old name, which a rename takes away and gives in one
		}
		n.durable, n.was = true, ""
		n.lose(lucky)
	}
}

func (n *inode) lose(lucky func() bool) {
	size := int64(len(n.data))
	if size != n.synced && !lucky() {
		size = n.synced
	}
	data := make([]byte, size)
	copy(data, n.data)
	for _, s := range slices.Sorted(maps.Keys(n.before)) {
		start := s * sectorSize
		if start >= size || start < int64(len(n.data)) && lucky() {
			continue
		}
		sector := data[start:min(start+sectorSize, size)]
		clear(sector)
		copy(sector, n.before[s])
	}
	n.data = data
	n.sync()
}

// damage does to each file that the fault aims at what a failing disk or memory does.
func (d *disk) damage(f *Fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(d.files)) {
		n := d.files[name]
		if !f.aims(name) || len(n.data) <= f.From {
			continue
		}
		for range f.Count {
			if f.Kind == TearPages {
				n.tear(d.random)
			} else {
				n.data[f.From+d.random.IntN(len(n.data)-f.From)] ^= 1 << d.random.IntN(8)
			}
		}
	}
}

// tear has some sectors of a page as they were before they were written last.
func (n *inode) tear(random *rand.Rand) {
	if len(n.earlier) == 0 {
		return
	}
	written := slices.Sorted(maps.Keys(n.earlier))
	const perPage = 8
	page := written[random.IntN(len(written))] / perPage
	for s := page * perPage; s < (page+1)*perPage; s++ {
		start := s * sectorSize
		if content, ok := n.earlier[s]; ok && random.IntN(2) == 0 && start < int64(len(n.data)) {
			sector := n.data[start:min(start+sectorSize, int64(len(n.data)))]
			clear(sector)
			copy(sector, content)
		}
	}
}

// used is how many bytes the files take.
func (d *disk) used() (sum int64) {
	for _, n := range d.files {
		sum += int64(len(n.data))
	}
	return sum
}
