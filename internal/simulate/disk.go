package simulate

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"

	"callback-service/internal/inbox"
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
	unlinked map[string]*inode // removed, and the removal is not durable
	locks    map[string]bool   // of inboxes, by path
	random   *rand.Rand
	faults   *faults

	syncLies bool // syncs return at once and do nothing: what a broken disk does, and must be noticed
	// namesLast: names are durable as soon as they are made.
	namesLast bool
	capacity  int64
}

type inode struct {
	data    []byte
	synced  int64            // the durable size
	before  map[int64][]byte // the durable content of sectors that were written since, by number
	durable bool             // the name is
}

func newDisk(random *rand.Rand, f *faults) *disk {
	return &disk{
		files: map[string]*inode{}, unlinked: map[string]*inode{}, locks: map[string]bool{},
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
		if _, again := d.files[name]; !again && d.unlinked[name].durable && !lucky() {
			d.files[name] = d.unlinked[name]
		}
	}
	clear(d.unlinked)
	clear(d.locks)
	for _, name := range slices.Sorted(maps.Keys(d.files)) {
		n := d.files[name]
		if !n.durable && !lucky() {
			delete(d.files, name)
			continue
		}
		n.durable = true
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

// flip turns bits of a file over, from an offset on, as a failing disk or memory does.
func (d *disk) flip(name string, bits, from int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, ok := d.files[name]
	if !ok || len(n.data) <= from {
		return
	}
	for range bits {
		n.data[from+d.random.IntN(len(n.data)-from)] ^= 1 << d.random.IntN(8)
	}
}

// used is how many bytes the files take.
func (d *disk) used() (sum int64) {
	for _, n := range d.files {
		sum += int64(len(n.data))
	}
	return sum
}

// mount is a disk as one life of the service sees it. Once the life was cut short nothing goes through.
type mount struct {
	*disk
	name    string // of the VFS
	scratch string // a real folder for the WAL's shared memory, which has no other implementation
	dead    atomic.Bool
	death   chan struct{}

	held   map[string]*held // SQLite's locks, by path; owned by disk.mu
	locked []string         // inboxes that this life owns; owned by disk.mu
}

// held are the locks on one file.
type held struct {
	shared              int
	reserved, exclusive *simFile
}

func (d *disk) mount(name, scratch string) *mount {
	m := &mount{disk: d, name: name, scratch: scratch, death: make(chan struct{}), held: map[string]*held{}}
	vfs.Register(name, m)
	return m
}

// cut ends the life's access, in the middle of whatever it does.
func (m *mount) cut() {
	if m.dead.CompareAndSwap(false, true) {
		close(m.death)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.locked {
		delete(m.disk.locks, p)
	}
	m.locked = nil
}

func (m *mount) unregister() { vfs.Unregister(m.name) }

// edge is the disk as the inbox and the store take it.
func (m *mount) edge() inbox.Disk {
	return inbox.Disk{VFS: m.name, Create: m.create, Lock: m.lock, Free: m.free}
}

// create makes a file whose name is durable.
func (m *mount) create(name string) error {
	if err := m.fault("create", name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.files[name]; !ok {
		m.files[name] = &inode{before: map[int64][]byte{}}
	}
	m.syncFolder(path.Dir(name))
	return nil
}

// syncFolder makes the names in a folder durable, and their removal.
func (m *mount) syncFolder(folder string) {
	if m.syncLies {
		return
	}
	for name, n := range m.files {
		if path.Dir(name) == folder {
			n.durable = true
		}
	}
	maps.DeleteFunc(m.unlinked, func(name string, _ *inode) bool { return path.Dir(name) == folder })
}

// lock is the lock of an inbox.
func (m *mount) lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead.Load() {
		return nil, errCut
	}
	if m.disk.locks[name] {
		return nil, errors.New("another process has it open")
	}
	m.disk.locks[name] = true
	m.locked = append(m.locked, name)
	return unlock{m, name}, nil
}

type unlock struct {
	m    *mount
	name string
}

func (u unlock) Close() error {
	u.m.mu.Lock()
	defer u.m.mu.Unlock()
	if i := slices.Index(u.m.locked, u.name); i >= 0 { // else the life was cut, and the lock went with it
		u.m.locked = slices.Delete(u.m.locked, i, i+1)
		delete(u.m.disk.locks, u.name)
	}
	return nil
}

func (m *mount) free(folder string) (int64, error) {
	if err := m.fault("statfs", folder); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.capacity - m.used(), nil
}

var errCut = errors.New("simulated: the process is gone")

// fault is the error that an operation gets now, if any. A dead life gets nothing else.
func (m *mount) fault(operation, name string) error {
	if m.dead.Load() {
		return errCut
	}
	return m.faults.disk(operation, name)
}

// Open is the VFS's.
func (m *mount) Open(name string, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	if m.fault("open", name) != nil {
		return nil, flags, sqlite3.CANTOPEN
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n, ok := m.files[name]
	switch {
	case name == "": // a file for sorting
		n = &inode{before: map[int64][]byte{}}
	case !ok && flags&vfs.OPEN_CREATE == 0:
		return nil, flags, sqlite3.CANTOPEN
	case !ok:
		n = &inode{before: map[int64][]byte{}, durable: m.namesLast}
		m.files[name] = n
	}
	f := &simFile{mount: m, inode: n, name: name}
	if flags&vfs.OPEN_MAIN_DB != 0 {
		f.shm = vfs.NewSharedMemory(m.scratch+"/"+m.name+strings.ReplaceAll(name, "/", "_")+"-shm", flags)
		if f.held = m.held[name]; f.held == nil {
			f.held = &held{}
			m.held[name] = f.held
		}
	}
	return f, flags, nil
}

// Delete is the VFS's.
func (m *mount) Delete(name string, syncFolder bool) error {
	if m.fault("delete", name) != nil {
		return sqlite3.IOERR_DELETE
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n, ok := m.files[name]
	if !ok {
		return sqlite3.IOERR_DELETE_NOENT
	}
	delete(m.files, name)
	if !m.namesLast {
		m.unlinked[name] = n
	}
	if syncFolder {
		m.syncFolder(path.Dir(name))
	}
	return nil
}

// Access is the VFS's.
func (m *mount) Access(name string, _ vfs.AccessFlag) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.files[name]
	return ok, nil
}

// FullPathname is the VFS's.
func (m *mount) FullPathname(name string) (string, error) { return name, nil }

// simFile is an open file.
type simFile struct {
	*mount
	inode *inode
	name  string
	level vfs.LockLevel
	held  *held
	shm   vfs.SharedMemory
}

// SharedMemory is of the main file of a database only.
func (f *simFile) SharedMemory() vfs.SharedMemory { return f.shm }

func (f *simFile) Close() error {
	if f.held != nil {
		_ = f.Unlock(vfs.LOCK_NONE)
	}
	return nil
}

func (f *simFile) ReadAt(p []byte, offset int64) (int, error) {
	if f.fault("read", f.name) != nil {
		return 0, sqlite3.IOERR_READ
	}
	if p := f.faults.active(ReadSlow); p != nil && strings.HasPrefix(f.name, objectsFile) {
		time.Sleep(p.Took)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if offset >= int64(len(f.inode.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.inode.data[offset:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *simFile) WriteAt(p []byte, offset int64) (int, error) {
	if err := f.fault("write", f.name); err != nil {
		return 0, writeCode(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	end := offset + int64(len(p))
	if grown := end - int64(len(f.inode.data)); grown > 0 {
		if f.used()+grown > f.capacity {
			return 0, sqlite3.FULL
		}
		f.inode.keep(min(offset, int64(len(f.inode.data))), end)
		f.inode.data = append(f.inode.data, make([]byte, grown)...)
	} else {
		f.inode.keep(offset, end)
	}
	return copy(f.inode.data[offset:], p), nil
}

func writeCode(err error) error {
	if errors.Is(err, errNoSpace) {
		return sqlite3.FULL
	}
	return sqlite3.IOERR_WRITE
}

func (f *simFile) Truncate(size int64) error {
	if f.fault("truncate", f.name) != nil {
		return sqlite3.IOERR_TRUNCATE
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if size < int64(len(f.inode.data)) {
		f.inode.keep(size, int64(len(f.inode.data)))
		f.inode.data = f.inode.data[:size:size]
	}
	return nil
}

// Sync takes the time that the disk takes. Only the inbox has that time: under database/sql a goroutine
// that sleeps holds a mutex, and time would stand still for those who wait for it.
func (f *simFile) Sync(vfs.SyncFlag) error {
	if err := f.fault("sync", f.name); err != nil {
		return sqlite3.IOERR_FSYNC
	}
	if wait := f.faults.syncTime(f.name); wait > 0 {
		select {
		case <-time.After(wait):
		case <-f.death:
		}
		if f.dead.Load() {
			return sqlite3.IOERR_FSYNC
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.syncLies {
		f.inode.sync()
	}
	return nil
}

func (f *simFile) Size() (int64, error) {
	if f.fault("size", f.name) != nil {
		return 0, sqlite3.IOERR_FSTAT
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return int64(len(f.inode.data)), nil
}

func (f *simFile) Lock(level vfs.LockLevel) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.held
	if f.level >= level {
		return nil
	}
	switch level {
	case vfs.LOCK_SHARED:
		if h.exclusive != nil {
			return sqlite3.BUSY
		}
		h.shared++
	case vfs.LOCK_RESERVED:
		if h.reserved != nil {
			return sqlite3.BUSY
		}
		h.reserved = f
	default:
		if h.reserved != nil && h.reserved != f || h.exclusive != nil || h.shared > 1 {
			return sqlite3.BUSY
		}
		h.reserved, h.exclusive = f, f
	}
	f.level = level
	return nil
}

func (f *simFile) Unlock(level vfs.LockLevel) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.level <= level {
		return nil
	}
	h := f.held
	if h.exclusive == f {
		h.exclusive = nil
	}
	if h.reserved == f {
		h.reserved = nil
	}
	if level == vfs.LOCK_NONE {
		h.shared--
	}
	f.level = level
	return nil
}

func (f *simFile) CheckReservedLock() (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.held.reserved != nil, nil
}

// SectorSize and DeviceCharacteristics are those of the VFS that the service runs on.
func (f *simFile) SectorSize() int { return 4096 }

// DeviceCharacteristics says that a write changes no byte beyond it.
func (f *simFile) DeviceCharacteristics() vfs.DeviceCharacteristic {
	return vfs.IOCAP_POWERSAFE_OVERWRITE
}

func (f *simFile) String() string { return fmt.Sprintf("%s on %s", f.name, f.mount.name) }
