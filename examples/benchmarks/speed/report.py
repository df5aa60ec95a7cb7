"""Rows as they come, and tables at the end."""

import json
import os
import platform

import torch


def line(row):
    place = " ".join(part for part in (row["section"], row["setting"], row["what"]) if part)
    told = f"{place}: {row['name']} {row['ratio']:.2f} x {row['versus']}"
    if "low" in row:
        told += f"  [{row['low']:.2f}, {row['high']:.2f}], {row['turns']} turns"
    return told


def tables(rows):
    """Markdown: a table for each section, a line for each setting and for what was measured."""
    sections = {}
    for row in rows:
        sections.setdefault((row["section"], row["versus"]), []).append(row)
    parts = []
    for (section, versus), some in sections.items():
        names = list(dict.fromkeys(row["name"] for row in some if row["name"] != versus))
        head = f"| {section}: times {versus} | " + " | ".join(names) + " |"
        lines = [head, "|---" * (len(names) + 1) + "|"]
        places = dict.fromkeys((row["setting"], row["what"]) for row in some)
        settings = list(dict.fromkeys(setting for setting, _ in places))
        places = sorted(places, key=lambda place: settings.index(place[0]))
        for setting, what in places:
            cells = {
                row["name"]: cell(row)
                for row in some
                if (row["setting"], row["what"]) == (setting, what)
            }
            label = ", ".join(part for part in (setting, what) if part)
            lines.append(
                f"| {label} | " + " | ".join(cells.get(name, "") for name in names) + " |"
            )
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def cell(row):
    if "low" not in row:
        return f"{row['ratio']:.2f}"
    return f"{row['ratio']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"


def environment(options):
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": options.threads,
        "oneDNN": torch._C._get_mkldnn_enabled(),
        "device": _device(options.device),
        "seconds": options.seconds,
    }


def _device(name):
    cuda = torch.device(name).type == "cuda"
    return torch.cuda.get_device_name(name) if cuda else name


def _processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [
                text.split(":", 1)[1].strip() for text in lines if text.startswith("model name")
            ]
        return names[0]
    except (OSError, IndexError):
        return platform.processor()


def save(path, options, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    result = {"environment": environment(options), "rows": rows}
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
