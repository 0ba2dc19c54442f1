"""Indonesian. The same keys as in `en.py`."""

from __future__ import annotations

from typing import Final

TEXTS: Final = {
    "decimal": ",",
    "and": "dan",
    "clock": "%H.%M.%S",
    "months": "Jan Feb Mar Apr Mei Jun Jul Agu Sep Okt Nov Des",
    "span.ms": "{n} ms",
    "span.s": "{n} dtk",
    "span.min": "{n} mnt",
    "span.min_s": "{n} mnt {s} dtk",
    "span.h_min": "{n} jam {min} mnt",
    "span.d_h": "{n} hari {h} jam",
    "asked.unknown": "sasaran uji mana pun",
    "asked.one": "1 sasaran uji",
    "asked.many": "{n} sasaran uji",
    "witness": "{uplink} ({rtt})",
    # Heads
    "title": "{what} {id}, {date} {clock} WITA",
    "title.decision": "Keputusan",
    "title.other": "Catatan",
    "title.unconfirmed": "jam Pi saat itu belum terkonfirmasi: bisa meleset",
    "label.why": "Sebab",
    "label.cut": "Putus",
    "label.next": "Lalu",
    "label.proof": "Bukti",
    "label.uplinks": "Keadaan uplink saat itu",
    # What happened
    "move.first": "Lokasi mulai memakai {to}.",
    "move.failover": "{old} gagal, maka lokasi dipindahkan ke {to}.",
    "move.switchover": "{old} buruk, maka lokasi dialihkan ke {to}.",
    "move.failback": "Lokasi kembali dari {old} ke {to}.",
    "move.ordered": "Perintah operator memindahkan lokasi dari {old} ke {to}.",
    "move.other": "Lokasi dipindahkan dari {old} ke {to} (aturan: {rule}).",
    "move.failed": "Kernel menolak pemindahan; akan dicoba lagi.",
    "why.old": "{old}: {reason}.",
    "why.new": "{to}: {reason}.",
    "why.since": "Sejak pukul {clock} tidak ada yang masuk lewat {old}.",
    "cut.measured": "Lokasi terputus selama {gap}.",
    "cut.unmeasured": "Lama lokasi terputus tidak terukur.",
    "cut.none": "{old} masih bekerja: semestinya tidak ada yang terputus.",
    "cut.detected": "Diketahui setelah {detected}.",
    "cut.switched": "Dipindahkan dalam {switched}.",
    # Candidates
    "health.up": "bekerja",
    "health.degraded": "terganggu",
    "health.down": "terputus",
    "health.unknown": "belum diuji",
    "chosen.failover": "dipilih: paling diutamakan di antara yang bekerja",
    "chosen.switchover": "dipilih: baik, dan sudah cukup lama",
    "chosen.failback": "dipilih: diutamakan, dan masa tunggunya selesai",
    "chosen.ordered": "dipilih: diperintahkan",
    "chosen.other": "dipilih",
    "left": "ditinggalkan: {reason}",
    "left.why": "ditinggalkan: lihat di atas",
    "left.ordered": "ditinggalkan: diperintahkan",
    "left.preferred": "ditinggalkan: ada yang lebih diutamakan",
    "not.reason": "tidak dipilih: {reason}",
    "not.later": "tidak dipilih: bekerja, tetapi kurang diutamakan",
    "not.waiting": "tidak dipilih: belum cukup lama bekerja",
    # What comes next
    "next.wait": (
        "{old} lebih diutamakan: setelah menjawab lagi dan bertahan {held}, "
        "lokasi kembali kepadanya."
    ),
    "next.until": (
        "{old} menjawab lagi sejak pukul {since}; bila bertahan, lokasi kembali "
        "kepadanya pukul {clock}."
    ),
    "next.stays": "Lokasi tetap di {to} selama uplink itu bekerja.",
    "next.back": "Lokasi kembali ke {old} pukul {clock} (keputusan {id}).",
    "next.moved": "Lokasi dipindahkan lagi pukul {clock}, ke {to} (keputusan {id}).",
    "next.stopped": "Agen berhenti pukul {clock}.",
    "proof.kept": "{steps} langkah terekam; jalankan ulang: jaga-agent replay {id}",
    "proof.gone": "{steps} langkah terekam, tidak disimpan lagi.",
    "proof.none": "tidak ada yang disimpan.",
    # Other entries
    "entry.health": "{uplink}: {old} → {new}.",
    "entry.health.until": "Bila bertahan, lokasi kembali kepadanya pukul {clock}.",
    "entry.target.silent": (
        "Sasaran uji {target} diam di semua uplink: kesalahannya sendiri. "
        "Lokasi tidak dipindahkan karenanya."
    ),
    "entry.target.answering": "Sasaran uji {target} menjawab lagi.",
    "entry.started": "Agen mulai berjalan.",
    "entry.stopped": "Agen berhenti.",
    "entry.break": "Rantai catatan terputus di sini.",
    "entry.turn": "Berkas baru rantai catatan dimulai di sini.",
    "entry.gap": "Paket pertama masuk lewat {uplink} setelah {gap}.",
    "entry.sealed": "Bukti keputusan {of} telah lengkap.",
    "entry.other": "{kind}: {uplink}",
    "kind.busy": "Beban",
    "kind.check": "Pemeriksaan",
    "kind.quota": "Kuota",
    "kind.order": "Perintah",
    "kind.configuration": "Konfigurasi",
    "kind.governor": "Pengujian",
    "kind.clock": "Jam",
    # The engine's reasons
    "reason.new": "belum diuji",
    "reason.link.gone": "perangkatnya hilang: modem dicabut atau menyala ulang",
    "reason.link.carrier": "tidak ada sambungan: kabel tercabut atau modem mati",
    "reason.link.no_address": "tidak ada alamat atau gateway: modem tidak memberinya",
    "reason.race.silent": (
        "tidak ada jawaban dari {asked} selama {silent}, sedangkan {witnesses} "
        "menjawab (tanda pertama: {cause})"
    ),
    "reason.race.silent_alone": (
        "tidak ada jawaban dari {asked} selama {silent}; uplink lain juga tidak "
        "menjawab (tanda pertama: {cause})"
    ),
    "reason.cause.traffic": "{packets} paket dikirim, tidak ada balasan selama {waited}",
    "reason.cause.syn": "{packets} sambungan diminta, tidak dijawab selama {waited}",
    "reason.cause.late": "jawaban dari {target} terlambat",
    "reason.cause.refused": "jalan ke {target} ditolak: {detail}",
    "reason.cause.not_sent": "uji ke {target} tidak dapat dikirim: {detail}",
    "reason.cause.silent_too": "tidak menjawab ketika ditanya sebagai saksi",
    "reason.cause.ordered": "diuji atas perintah operator",
    "reason.cause.verify": "diuji setelah pemindahan",
    "reason.verify": "diuji setelah pemindahan",
    "reason.loss.high": "terlalu banyak uji yang hilang",
    "reason.loss.counted": "{lost} dari {of} uji hilang",
    "reason.slow": "lambat: pulang-pergi {rtt}",
    "reason.slow.base": "lambat: pulang-pergi {rtt}, biasanya {base}",
    "reason.busy": (
        "penuh oleh lalu lintas lokasi sendiri: pulang-pergi {rtt} pada "
        "{rate_kbit_s} kbit/dtk"
    ),
    "reason.busy.over": "tidak penuh lagi: pulang-pergi {rtt}",
    "reason.check.failed": (
        "{target} tidak dapat dipakai lewat sini, tetapi dapat lewat {witnesses}: "
        "{verdict}"
    ),
    "reason.check.alone": "{target} tidak dapat dipakai: {verdict}",
    "reason.check.ok": "{target} dapat dipakai",
    "reason.dns.dead": (
        "nama tidak dapat dicari lewat sini, tetapi dapat lewat {witnesses}"
    ),
    "reason.dns.dead.alone": "nama tidak dapat dicari lewat sini",
    "reason.answered": "{streak} jawaban berturut-turut, pulang-pergi {rtt}",
    "reason.clean": "baik kembali, pulang-pergi {rtt}",
    "reason.clean.plain": "baik kembali",
    "reason.first": "uplink terbaik yang bekerja",
    "reason.holddown.over": "masa tunggunya {held} telah dilalui tanpa gagal",
    "reason.target.silent": (
        "diam di {ways} dari {ways} uplink yang bekerja, sasaran lain menjawab"
    ),
    "reason.target.failing": "gagal di {ways} dari {ways} uplink: {verdict}",
    "reason.target.back": "menjawab lagi",
    "reason.thrift.quota": "tersisa {left_mb} dari {quota_mb} MB: {what}",
    "reason.thrift.probes": (
        "ujinya memakai {spent_kb} kB dalam 24 jam, jatahnya {allowed_kb} kB: {what}"
    ),
    "reason.thrift.none": "kuota dan jatah uji cukup: {what}",
    "level.normal": "diukur seperti biasa",
    "level.thrift": "diukur setengah dari biasanya",
    "level.sparing": "diukur seperempat dari biasanya",
    "level.last-drops": "diukur seperdua puluh dari biasanya, diperiksa bila dicurigai saja",
    "reason.order.switch": "diperintahkan oleh operator {operator}",
    "reason.order.malformed": "bukan perintah: {detail}",
    "reason.order.no_keys": "lokasi ini tidak menuruti siapa pun: {detail}",
    "reason.order.operator": "lokasi ini tidak punya kunci operator {operator}",
    "reason.order.key": "kunci operator {operator} tidak dapat dipakai: {detail}",
    "reason.order.forged": (
        "tidak ditandatangani operator {operator}: palsu, atau telah diubah"
    ),
    "reason.order.elsewhere": "ditujukan ke lokasi {site} di wilayah {region}",
    "reason.order.memory": (
        "tidak diketahui apakah ini sudah pernah dilakukan: {detail}"
    ),
    "reason.order.repeated": "tidak lebih baru daripada perintah operator ini sebelumnya",
    "reason.order.same": "datang lagi: dijawab lagi, tidak dilakukan lagi",
    "reason.order.early": (
        "dibuat {early} di masa depan: salah satu dari kedua jam keliru"
    ),
    "reason.order.stale": "datang {late} setelah kedaluwarsa",
    "reason.order.endless": "berlaku {for}; paling lama {most}",
    "reason.order.no_clock": (
        "lokasi ini tidak tahu waktu, dan perintah tidak menyebut saat dari boot ini"
    ),
    "reason.order.unknown": "tidak ada tindakan {action}",
    "reason.order.arguments": "{action}: {detail}",
    "reason.order.unfit": "{uplink} tidak dapat membawa lokasi: {why}",
    "reason.order.impossible": "{detail}",
    "reason.order.accepted": "{action}, diperintahkan oleh operator {operator}",
    "reason.order.done": "{action}: {detail}",
    "reason.order.failed": "{action} gagal: {detail}",
    "reason.order.many": "{count} perintah lagi ditolak",
    "reason.clock.first": (
        "waktu sudah diketahui dari {source}, selisih paling banyak {within}; jam Pi "
        "sendiri meleset {off}"
    ),
    "reason.clock.source": "waktu kini dari {source}, bukan lagi dari {before}",
    "reason.clock.corrected": (
        "waktu tadinya salah {moved}; kini dari {source}, selisih paling banyak {within}"
    ),
    "reason.clock.stepped": (
        "jam Pi sendiri melompat {step}; catatan tetap memakai waktu dari {source}"
    ),
    "reason.clock.stepped.unknown": (
        "jam Pi sendiri melompat {step}; belum ada yang memastikan waktu"
    ),
    "reason.text": "{text}",
    # Siapa yang memberi tahu waktu
    "source.unknown": "siapa pun",
    "source.ntp": "NTP",
    "source.reflector": "pusat pemantauan",
    "source.http-date": "server web bersertifikat sah",
    "source.modem": "jaringan modem",
    "time.unknown": "belum ada yang memastikan waktu sejak Pi dinyalakan",
    "time.known": (
        "waktu dipastikan {source} {age} lalu; selisih paling banyak {within}"
    ),
    "time.off": "jam Pi sendiri meleset {off}: catatan tidak memakainya",
    # Verdicts of checks
    "verdict.ok": "bekerja",
    "verdict.dns-failed": "namanya tidak dapat dicari",
    "verdict.refused": "sambungan ditolak",
    "verdict.unreachable": "jaringan mengatakan tidak terjangkau",
    "verdict.timeout": "tidak ada jawaban",
    "verdict.reset": "sambungan diputus: kuota mungkin habis",
    "verdict.certificate": "server lain menjawab menggantikannya",
    "verdict.redirected": "diarahkan ke halaman lain: kuota mungkin habis",
    "verdict.unexpected": "jawabannya tidak seperti seharusnya",
    "verdict.not-sent": "tidak dapat ditanyakan",
}
