"What the benchmarks share: the machine and its load, memory at its peak, loops in machine code switched on and off, tables and files of results."
import importlib, json, os, sys, threading, time
from functools import cache
from pathlib import Path

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root))                    # the package of this checkout
pause = .15                                      # seconds before each timing: the threads of what ran before stop spinning (numpy's wait for 0.1 s, and whoever comes next takes half as long again)


# ---- what is loaded ----

@cache
def loops(module):
    "The holder of a module's loops in machine code, and the loops, loaded; None where numba is not installed"
    held = importlib.import_module(f'dl4ia_nbdev.{module}')._loops; held.load()
    return held, held.code


def use_loops(module, compiled=True):
    "Have `nearest` or `views` go with its loops, or without; are they there? (By themselves they come after a second of work)"
    held, code = loops(module); held.code, held.asked = code if compiled else None, True
    return code is not None


def set_threads(n):
    "`n` threads for everything that is loaded"
    import threadpoolctl
    if 'torch' in sys.modules: sys.modules['torch'].set_num_threads(n)
    if 'faiss' in sys.modules: sys.modules['faiss'].omp_set_num_threads(n)
    threadpoolctl.threadpool_limits(n)


# ---- measuring ----

def others_busy():
    "A function that says which share of the processors other processes have taken since this call"
    import psutil
    me = psutil.Process()

    def now():
        own, all_ = me.cpu_times(), psutil.cpu_times()
        return time.perf_counter()*psutil.cpu_count(), sum(getattr(all_, o, 0) for o in ('user', 'nice', 'system', 'steal')) - own.user - own.system
    start = now()

    def share():
        t, busy = (b - a for a, b in zip(start, now()))
        return max(0., busy/t)
    return share


def peak_memory(f):
    "Bytes resident at the peak of `f()` beyond those before it"
    status = lambda key: 1024*int(next(l for l in open('/proc/self/status') if l.startswith(key)).split()[1])
    try: Path('/proc/self/clear_refs').write_text('5')      # Linux: the peak starts again from here
    except OSError: pass
    else:
        before = status('VmRSS')
        f()
        return status('VmHWM') - before
    import psutil
    rss, done = psutil.Process().memory_info, threading.Event()
    before = peak = rss().rss

    def watch():
        nonlocal peak
        while not done.wait(.002): peak = max(peak, rss().rss)
    t = threading.Thread(target=watch)
    t.start()
    f()
    done.set()
    t.join()
    return peak - before


def steady():
    "The environment of a process whose memory is measured: glibc's thresholds fixed, so that its peak is what was held and not what was given back and kept for later"
    return os.environ | dict(MALLOC_MMAP_THRESHOLD_='1048576', MALLOC_TRIM_THRESHOLD_='1048576')


# ---- what is printed and kept ----

def cell(v):
    if v is None: return '–'
    if isinstance(v, float): return f'{v:,.0f}' if abs(v) >= 1000 else f'{v:.2f}' if abs(v) >= .1 else f'{v:.2g}' if abs(v) >= 1e-6 else '0'
    return f'{v:,}' if isinstance(v, int) else str(v)


def headline(env, threads):
    "Print the machine and the versions"
    print(f"{env['cpu']}, {env['system']}, {threads} thread{'s'*(threads > 1)}; Python {env['python']}, " + ', '.join(f'{o} {v}' for o, v in env['versions'].items() if v and o != 'torchvision'))


def write(path, data):
    "JSON to the file of `--json`, if there is one"
    if path: Path(path).parent.mkdir(parents=True, exist_ok=True); Path(path).write_text(json.dumps(data, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')


def keep(a, env, rows, *hide):
    "Write rows, environment and the settings but for those in `hide` to the file of `--json`, if there is one"
    write(a.json, dict(environment=env, settings={o: v for o, v in vars(a).items() if o not in ('json', *hide)}, rows=rows))


def show(rows, hide=()):
    "Print `rows` as an aligned table, without the columns in `hide`"
    columns = [o for o in dict.fromkeys(c for r in rows for c in r) if o not in hide]
    table = [columns] + [[cell(r.get(c)) for c in columns] for r in rows]
    width = [max(map(len, o)) for o in zip(*table)]
    text = [isinstance(next((r[c] for r in rows if r.get(c) is not None), 0), str) for c in columns]
    for r in table: print('  ' + '  '.join(v.ljust(w) if t else v.rjust(w) for v, w, t in zip(r, width, text)).rstrip())
    print(flush=True)


def environment():
    "The package's description of the machine, with the libraries compared and their thread pools"
    import threadpoolctl
    from importlib.metadata import PackageNotFoundError, version
    from dl4ia_nbdev.report import environment
    env = environment()
    for o in ('scikit-learn', 'faiss-cpu', 'numba', 'threadpoolctl', 'lightly', 'kornia', 'pytorch-metric-learning'):
        try: env['versions'][o] = version(o)
        except PackageNotFoundError: env['versions'][o] = None
    pools = [{o: p.get(o) for o in ('user_api', 'prefix', 'version', 'architecture', 'num_threads')} for p in threadpoolctl.threadpool_info()]
    return env | dict(pools=pools)
