package simulate

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"

	system "callback-service/internal/disk"
)

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
		delete(m.owned, p)
	}
	m.locked = nil
}

func (m *mount) unregister() { vfs.Unregister(m.name) }

// edge is the disk as the inbox and the store take it.
func (m *mount) edge() system.Disk {
	return system.Disk{
		VFS: m.name, Create: m.create, Lock: m.lock, Free: m.free,
		SyncFolder: m.syncNames, Rename: m.rename, Remove: m.remove, Names: m.names, Open: m.open,
	}
}

// create makes a file whose name is durable. A file that is there already needs no space.
func (m *mount) create(name string) (string, error) {
	err := m.fault("create", name)
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.files[name]
	if err != nil && (!ok || !errors.Is(err, errNoSpace)) {
		return "", err
	}
	if !ok {
		m.files[name] = &inode{before: map[int64][]byte{}}
	}
	m.syncFolder(path.Dir(name))
	return name, nil
}

// syncNames is what the program calls to make the names in a folder durable.
func (m *mount) syncNames(folder string) error {
	if err := m.fault("sync", folder+"/"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.syncFolder(folder)
	return nil
}

// rename gives a file another name. Until its folder is synced, a loss of power may give it the old one back.
func (m *mount) rename(from, to string) error {
	if err := m.fault("rename", from); err != nil {
		return err
	}
	m.mu.Lock()
	n, ok := m.files[from]
	if ok {
		delete(m.files, from)
		m.files[to] = n
		if n.durable && !m.namesLast {
			n.durable, n.was = false, from
		}
	}
	m.mu.Unlock()
	if !ok {
		return os.ErrNotExist
	}
	return m.syncNames(path.Dir(to))
}

func (m *mount) remove(name string) error {
	err := m.Delete(name, false)
	if errors.Is(err, sqlite3.IOERR_DELETE_NOENT) {
		return os.ErrNotExist
	}
	return err
}

func (m *mount) names(folder string) (names []string, err error) {
	if err := m.fault("list", folder+"/"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.files {
		if path.Dir(name) == path.Clean(folder) {
			names = append(names, path.Base(name))
		}
	}
	slices.Sort(names)
	return names, nil
}

func (m *mount) open(name string) (system.File, error) {
	if err := m.fault("open", name); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n, ok := m.files[name]
	if !ok {
		return nil, os.ErrNotExist
	}
	return &simFile{mount: m, inode: n, name: name}, nil
}

// syncFolder makes the names in a folder durable, and their removal.
func (m *mount) syncFolder(folder string) {
	if m.syncLies {
		return
	}
	for name, n := range m.files {
		if path.Dir(name) == folder {
			n.durable, n.was = true, ""
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
	if m.owned[name] {
		return nil, system.ErrInUse
	}
	m.owned[name] = true
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
		delete(u.m.owned, u.name)
	}
	return nil
}

func (m *mount) free(folder string) (int64, error) {
	switch err := m.fault("statfs", folder+"/"); {
	case errors.Is(err, errNoSpace):
		return 0, nil
	case err != nil:
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
	if n.durable && !m.namesLast {
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
