"""Pull and push against a real Orthanc, over DICOMweb and DIMSE, with and without TLS and passwords."""

import gc
import logging
import socket
import socketserver
import ssl
import threading
import time
import warnings
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pydicom
import pytest
from helpers.dicom_phantoms import axial_affine, make_series
from helpers.orthanc import free_port, make_certificates, orthanc
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless, MediaStorageDirectoryStorage, RLELossless
from pynetdicom import build_context
from typer.testing import CliRunner

from unetpp_monai.cli.pacs import app
from unetpp_monai.errors import InputError, OutputError, PacsError, UnavailableError, UnetppError
from unetpp_monai.pacs import (
    Credentials,
    Query,
    SeriesRef,
    connect,
    pull,
    pull_series,
    push,
)
from unetpp_monai.pacs.dimse_association import SUCCESS, DimseAddress, associated, receive, receiving


@pytest.fixture(scope="module")
def move_port():
    return free_port()


@pytest.fixture(scope="module")
def archive(tmp_path_factory, move_port):
    settings = {"DicomModalities": {"us": ["UNETPP", "127.0.0.1", move_port]}}
    with orthanc(tmp_path_factory.mktemp("orthanc"), settings=settings) as server:
        yield server


@pytest.fixture(params=["dicomweb", "get", "move"])
def remote(request, archive, move_port):
    """The same archive by each way to retrieve from it."""
    if request.param == "dicomweb":
        return connect(archive.dicomweb_url)
    port = move_port if request.param == "move" else None
    return connect(f"dimse://{archive.aet}@127.0.0.1:{archive.dicom_port}", move_port=port)


def by_uid(folder):
    return {dataset.SOPInstanceUID: dataset for dataset in map(pydicom.dcmread, folder.rglob("*.dcm"))}


def assert_same_instances(one, two):
    ours, theirs = by_uid(one), by_uid(two)
    assert set(ours) == set(theirs)
    for uid, dataset in ours.items():
        np.testing.assert_array_equal(dataset.pixel_array, theirs[uid].pixel_array)
        assert dataset.file_meta.TransferSyntaxUID == theirs[uid].file_meta.TransferSyntaxUID
        assert dataset == theirs[uid]


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEGLSLossless], ids=["native", "RLE", "JPEG-LS"])
def test_what_is_pushed_is_pulled(tmp_path, remote, syntax):
    def compress(dataset, _):
        if syntax is not None:
            plugin = "pydicom" if syntax == RLELossless else "pyjpegls"
            dataset.compress(syntax, encoding_plugin=plugin)

    if syntax == JPEGLSLossless:
        pytest.importorskip("jpeg_ls", reason="needs an encoder of JPEG-LS")
    header = make_series(tmp_path / "series", axial_affine(), change=compress)[0]
    (tmp_path / "series" / "notes.txt").write_text("no DICOM")
    pushed = push(remote, [tmp_path / "series"])
    assert (len(pushed.stored), dict(pushed.failed)) == (9, {})
    (folder,) = pull(remote, Query(study=header.StudyInstanceUID), tmp_path / "out")
    assert folder == tmp_path / "out" / header.StudyInstanceUID / header.SeriesInstanceUID
    assert {path.stem for path in folder.iterdir()} == set(by_uid(tmp_path / "series"))
    assert_same_instances(tmp_path / "series", folder)


def test_real_series_come_back_equal(tmp_path, remote, shared_data):
    source = shared_data / "dicom" / "Study3_26401-T1prereg-52906"
    header = pydicom.dcmread(next(source.iterdir()), stop_before_pixels=True)
    push(remote, [source])
    (folder,) = pull(remote, Query(series=header.SeriesInstanceUID), tmp_path)
    ours = {dataset.SOPInstanceUID: dataset for dataset in map(pydicom.dcmread, source.iterdir())}
    for uid, dataset in by_uid(folder).items():
        np.testing.assert_array_equal(dataset.pixel_array, ours.pop(uid).pixel_array)
    assert not ours


def test_queries_combine(tmp_path, remote):
    patient = f"Q{pydicom.uid.generate_uid()[-12:]}"  # the archive holds what other tests sent

    def name(text):
        def change(dataset, _):
            dataset.PatientID = text

        return change

    first = make_series(tmp_path / "a", axial_affine(), change=name(patient))[0]
    second = make_series(tmp_path / "b", axial_affine(), modality="CT", change=name(patient))[0]
    make_series(tmp_path / "c", axial_affine(), change=name(f"{patient}2"))
    push(remote, [tmp_path])
    found = {ref.series for ref in remote.find(Query(patient=patient))}
    assert found == {first.SeriesInstanceUID, second.SeriesInstanceUID}
    assert [ref.series for ref in remote.find(Query(patient=patient, modality="CT"))] == [second.SeriesInstanceUID]
    assert remote.find(Query(series=first.SeriesInstanceUID)) == [
        SeriesRef(first.StudyInstanceUID, first.SeriesInstanceUID)
    ]
    with pytest.raises(InputError, match="must name a study, a series or a patient"):
        remote.find(Query(modality="CT"))


@pytest.mark.parametrize("lost", [slice(1, None), slice(None, -1)], ids=["first", "last"])
def test_answers_lost_on_our_side_are_asked_for_again(tmp_path, archive, monkeypatch, lost):
    from pynetdicom.association import Association

    remote = connect(f"dimse://{archive.aet}@127.0.0.1:{archive.dicom_port}")
    first = make_series(tmp_path / "a", axial_affine())[0]
    push(remote, [tmp_path])
    ask, asked, losses = Association.send_c_find, [], 1

    def losing(self, *arguments):  # as pynetdicom's reactor does when it is late
        asked.append(arguments)
        answers = list(ask(self, *arguments))
        return iter(answers[lost] if len(asked) <= losses else answers)

    monkeypatch.setattr(Association, "send_c_find", losing)
    query = Query(series=first.SeriesInstanceUID)
    assert remote.find(query) == [SeriesRef(first.StudyInstanceUID, first.SeriesInstanceUID)]
    assert len(asked) == 2
    losses = 4
    with pytest.raises(UnavailableError, match="lost on our side"):
        remote.find(query)


def test_what_the_archive_does_not_hold(tmp_path, remote):
    with pytest.raises(InputError, match=r"found no series with StudyInstanceUID 1\.2\.3"):
        list(pull(remote, Query(study="1.2.3"), tmp_path / "out"))
    with pytest.raises(PacsError):
        pull_series(remote, SeriesRef("1.2.3", "1.2.3.4"), tmp_path / "out" / "series")
    assert not list(tmp_path.rglob("*.dcm"))
    assert not list(tmp_path.rglob(".unetpp_*"))


def test_a_series_is_not_overwritten_unasked(tmp_path, archive):
    remote = connect(archive.dicomweb_url)
    header = make_series(tmp_path / "series", axial_affine())[0]
    push(remote, [tmp_path / "series"])
    query = Query(series=header.SeriesInstanceUID)
    (folder,) = pull(remote, query, tmp_path / "out")
    (folder / "old.dcm").write_bytes(b"")
    with pytest.raises(OutputError, match="exists; choose another place or allow overwriting"):
        list(pull(remote, query, tmp_path / "out"))
    assert list(pull(remote, query, tmp_path / "out", overwrite=True)) == [folder]
    assert not (folder / "old.dcm").exists()


def test_failures_are_named_one_by_one(tmp_path, remote):
    headers = make_series(tmp_path / "series", axial_affine())
    path = tmp_path / "series" / "004.dcm"
    spoiled = pydicom.dcmread(path)
    del spoiled.StudyInstanceUID
    spoiled.save_as(path)
    pushed = push(remote, [tmp_path / "series"])
    assert set(pushed.failed) == {headers[4].SOPInstanceUID}
    assert set(pushed.stored) == {header.SOPInstanceUID for header in headers} - set(pushed.failed)
    (tmp_path / "text.dcm").write_text("no DICOM")
    with pytest.raises(InputError, match=r"only DICOM files can be sent, got .*text\.dcm"):
        push(remote, [tmp_path / "text.dcm"])
    with pytest.raises(InputError, match="input must exist"):
        push(remote, [tmp_path / "nothing"])


def test_more_kinds_of_objects_than_an_association_has_contexts(tmp_path, archive, monkeypatch):
    from unetpp_monai.pacs import dimse

    monkeypatch.setattr(dimse, "MAX_CONTEXTS", 1)
    make_series(tmp_path / "mr", axial_affine())
    make_series(tmp_path / "ct", axial_affine(), modality="CT")
    pushed = push(connect(f"dimse://{archive.aet}@127.0.0.1:{archive.dicom_port}"), [tmp_path])
    assert (len(pushed.stored), dict(pushed.failed)) == (18, {})


def test_nobody_listens(tmp_path):
    make_series(tmp_path, axial_affine())
    for address in (f"http://127.0.0.1:{free_port()}/dicom-web", f"dimse://NOBODY@127.0.0.1:{free_port()}"):
        remote = connect(address)
        with pytest.raises(UnavailableError, match="must be reachable"):
            remote.find(Query(study="1.2.3"))
        with pytest.raises(UnavailableError, match="must be reachable"):
            push(remote, [tmp_path])


@contextmanager
def serving(*services, handlers=()):
    """Address of an archive that offers these SOP classes, and nothing else."""
    from pynetdicom import AE

    entity, port = AE(ae_title="ARCHIVE"), free_port()
    for service in services:
        entity.add_supported_context(service, scu_role=True, scp_role=True)
    entity.start_server(("127.0.0.1", port), block=False, evt_handlers=list(handlers))
    try:
        yield f"dimse://ARCHIVE@127.0.0.1:{port}"
    finally:
        entity.shutdown()


@pytest.mark.parametrize("stores", [True, False], ids=["stores", "finds only"])
def test_an_archive_without_c_get(tmp_path, stores):
    from pynetdicom import evt, sop_class

    def find(event):
        row = pydicom.Dataset()
        row.SOPClassUID, row.SOPInstanceUID = sop_class.MRImageStorage, "1.2.3.4.5"
        yield 0xFF00, row
        yield SUCCESS, None

    services = [sop_class.StudyRootQueryRetrieveInformationModelFind, *([sop_class.MRImageStorage] if stores else [])]
    with (
        serving(*services, handlers=[(evt.EVT_C_FIND, find)]) as address,
        pytest.raises(PacsError, match=r"must offer C-GET, got a refusal; retrieve by C-MOVE$"),
    ):
        pull_series(connect(address), SeriesRef("1.2.3", "1.2.3.4"), tmp_path / "series")


def test_an_archive_that_refuses_all_that_we_ask_for_is_not_down(tmp_path):
    make_series(tmp_path, axial_affine(), (8, 8, 2))
    with serving("1.2.840.10008.1.1") as address:  # verification
        with pytest.raises(PacsError, match="got a refusal of MR Image Storage") as refused:
            push(connect(address), [tmp_path])
        assert not isinstance(refused.value, UnavailableError)
        with pytest.raises(PacsError, match="got a refusal of Study Root Query/Retrieve Information Model - FIND"):
            connect(address).find(Query(study="1.2.3"))


def test_an_archive_that_trips_over_an_instance_is_not_down(tmp_path):
    class Trips(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_error(500)

        def log_message(self, *_):
            pass

    make_series(tmp_path, axial_affine(), (8, 8, 2))
    with HTTPServer(("127.0.0.1", 0), Trips) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with pytest.raises(PacsError, match="must store what it is sent, got HTTP 500") as tripped:
                push(connect(f"http://127.0.0.1:{server.server_address[1]}/dicom-web"), [tmp_path])
        finally:
            server.shutdown()
    assert not isinstance(tripped.value, UnavailableError)


def test_the_files_of_a_medium_are_pushed_without_its_directory(tmp_path, remote):
    make_series(tmp_path / "cd" / "series", axial_affine())
    directory = pydicom.Dataset()
    directory.FileSetID, directory.DirectoryRecordSequence = "CD", []
    directory.file_meta = pydicom.dataset.FileMetaDataset()
    directory.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    directory.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    directory.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory.save_as(tmp_path / "cd" / "DICOMDIR", enforce_file_format=True)
    pushed = push(remote, [tmp_path / "cd"])
    assert (len(pushed.stored), dict(pushed.failed)) == (9, {})
    with pytest.raises(InputError, match="DICOMDIR"):
        push(remote, [tmp_path / "cd" / "DICOMDIR"])


def test_somebody_else_listens(archive):
    with pytest.raises(PacsError, match="must hold what we ask for, got HTTP 404"):
        connect(f"{archive.url}/nothing").find(Query(study="1.2.3"))
    with pytest.raises(PacsError):
        connect(f"{archive.url}/app/explorer.html?").find(Query(study="1.2.3"))


@pytest.mark.server
def test_an_archive_that_rejects_our_title(tmp_path):
    settings = {"DicomCheckCalledAet": True}
    with orthanc(tmp_path, settings=settings) as server, pytest.raises(PacsError, match="check both AE titles"):
        connect(f"dimse://OTHER@127.0.0.1:{server.dicom_port}").find(Query(study="1.2.3"))


def test_a_rejection_before_we_look_at_the_connection():
    from pynetdicom import evt
    from pynetdicom.sop_class import Verification

    def slow(_event):
        time.sleep(0.5)

    port = free_port()
    contexts, late = [build_context(Verification)], [(evt.EVT_REQUESTED, slow)]
    with receiving("ARCHIVE", ("127.0.0.1", port), []), pytest.raises(PacsError, match="check both AE titles"):
        address = DimseAddress("OTHER", "127.0.0.1", port)
        with associated(address, contexts, aet="US", evt_handlers=late):
            pass


def test_an_archive_that_hangs_up_is_unavailable():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()  # and never answers
        remote = connect(f"http://127.0.0.1:{server.getsockname()[1]}/dicom-web")
        remote.client._timeout = (1, 1)
        with pytest.raises(UnavailableError, match="ReadTimeout"):
            remote.find(Query(study="1.2.3"))


@pytest.mark.parametrize(
    "address",
    [
        "ftp://host/x",
        "dimse://\u00c4ET@host:104",
        "dimse://host:104",
        "dimse://AET@host:0",
        "dimse://AET@host:99999",
        "http://",
        "host:8042",
    ],
)
def test_addresses_that_are_none(address):
    with pytest.raises(InputError, match="must be"):
        connect(address)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    with orthanc(tmp_path_factory.mktemp("guarded"), authentication=True) as server:
        yield server


def test_passwords_come_from_a_file_or_the_environment(tmp_path, guarded, monkeypatch):
    header = make_series(tmp_path / "series", axial_affine())[0]
    (tmp_path / "password").write_text(f"{guarded.password}\n")
    monkeypatch.setenv("ARCHIVE_PASSWORD", guarded.password)
    for secret in (["--password-file", str(tmp_path / "password")], ["--password-env", "ARCHIVE_PASSWORD"]):
        run(["push", guarded.dicomweb_url, str(tmp_path / "series"), "--user", guarded.user, *secret])
    command = ["pull", guarded.dicomweb_url, "-o", str(tmp_path / "out"), "--series", header.SeriesInstanceUID]
    result = run([*command, "--user", guarded.user, "--password-env", "ARCHIVE_PASSWORD"])
    assert result.stdout.split() == [str(tmp_path / "out" / header.StudyInstanceUID / header.SeriesInstanceUID)]
    monkeypatch.setenv("ARCHIVE_PASSWORD", "wrong")
    for options in ([], ["--user", guarded.user, "--password-env", "ARCHIVE_PASSWORD"]):
        with pytest.raises(PacsError, match="must accept our credentials, got HTTP 401"):
            run([*command, "--overwrite", *options])


@pytest.mark.parametrize(
    "options",
    [
        ["--user", "reader"],
        ["--password-env", "HOME"],
        ["--user", "reader", "--password-env", "NOWHERE_SET"],
        ["--user", "reader", "--password-file", "missing"],
        ["--user", "reader", "--password-file", "missing", "--password-env", "HOME"],
        ["--user", "reader", "--password-env", "HOME", "--token-file", "missing"],
        ["--ca", "missing"],
    ],
)
def test_credentials_that_do_not_add_up(tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError):
        run(["pull", "http://127.0.0.1:1/dicom-web", "-o", "out", "--study", "1.2.3", *options])


@pytest.mark.parametrize("title", ["", "A" * 17])
def test_a_title_of_ours_that_is_none(title):
    with pytest.raises(InputError, match="an AE title must be 1 to 16 ASCII characters"):
        run(["pull", "dimse://ARCHIVE@127.0.0.1:1", "-o", "out", "--study", "1.2.3", "--aet", title])


def test_a_port_that_is_none():
    command = ["pull", "dimse://ARCHIVE@127.0.0.1:1", "-o", "out", "--study", "1.2.3", "--move-port", "99999"]
    result = CliRunner().invoke(app, command)
    assert (result.exit_code, type(result.exception)) == (2, SystemExit)
    assert "65535" in result.stderr and "Traceback" not in result.stderr


def test_credentials_over_plain_http_are_warned_of(monkeypatch):
    monkeypatch.setenv("ARCHIVE_PASSWORD", "fog horn")
    command = ["pull", f"http://127.0.0.2:{free_port()}/dicom-web", "-o", "out", "--study", "1.2.3"]
    result = CliRunner().invoke(app, [*command, "--user", "reader", "--password-env", "ARCHIVE_PASSWORD"])
    assert isinstance(result.exception, UnavailableError)
    assert result.stderr == "credentials go over plain http, which everybody on the way can read; use https\n"


def test_secrets_are_not_shown():
    assert "fog horn" not in repr(Credentials(user="reader", password="fog horn", token="fog horn"))


def run(arguments):
    result = CliRunner().invoke(app, arguments)
    if isinstance(result.exception, UnetppError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def test_push_says_what_failed_and_exits_with_1(tmp_path, archive):
    headers = make_series(tmp_path / "series", axial_affine())
    spoiled = pydicom.dcmread(tmp_path / "series" / "004.dcm")
    del spoiled.StudyInstanceUID
    spoiled.save_as(tmp_path / "series" / "004.dcm")
    result = CliRunner().invoke(app, ["push", archive.dicomweb_url, str(tmp_path / "series")])
    assert (result.exit_code, result.stdout) == (1, "8 instances stored\n")
    assert headers[4].SOPInstanceUID in result.stderr


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("tls"))


@contextmanager
def https_front(port, certificates):
    """An HTTPS address before a plain one that lets in only whom the certificate vouches for.

    Orthanc's own HTTPS fails after the handshake in Debian 12 (1.10.1 with OpenSSL 3), for curl as well.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates / "cert.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")

    class Bridge(socketserver.BaseRequestHandler):
        def handle(self):
            with (
                suppress(OSError),
                context.wrap_socket(self.request, server_side=True) as client,
                socket.create_connection(("127.0.0.1", port)) as server,
            ):
                back = threading.Thread(target=copy, args=(server, client), daemon=True)
                back.start()
                copy(client, server)
                back.join()

    def copy(one, other):
        with suppress(OSError):
            while block := one.recv(1 << 16):
                other.sendall(block)
            other.shutdown(socket.SHUT_WR)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Bridge) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"https://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def test_https(tmp_path, certificates, archive, monkeypatch):
    cert, key = certificates / "cert.pem", certificates / "key.pem"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/ssl/certs/ca-certificates.crt")  # which must not win
    make_series(tmp_path / "series", axial_affine())
    with https_front(archive.http_port, certificates) as url:
        ours = connect(f"{url}/dicom-web", Credentials(ca=cert, certificate=cert, key=key))
        pushed = push(ours, [tmp_path / "series"])
        assert (len(pushed.stored), dict(pushed.failed)) == (9, {})
        with pytest.raises(PacsError, match="must show a certificate that we trust"):
            push(connect(f"{url}/dicom-web", Credentials(certificate=cert, key=key)), [tmp_path / "series"])
        with pytest.raises(PacsError):
            push(connect(f"{url}/dicom-web", Credentials(ca=cert)), [tmp_path / "series"])


@pytest.mark.server
def test_dimse_with_tls(tmp_path, certificates, caplog):
    caplog.set_level(logging.CRITICAL + 1, logger="pynetdicom")  # records hold the sockets of the tracebacks in them
    cert, key = certificates / "cert.pem", certificates / "key.pem"
    settings = {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(cert),
        "DicomTlsPrivateKey": str(key),
        "DicomTlsTrustedCertificates": str(cert),
    }
    make_series(tmp_path / "series", axial_affine())
    with orthanc(tmp_path / "orthanc", settings=settings) as server:
        address = f"dimses://{server.aet}@127.0.0.1:{server.dicom_port}"
        pushed = push(connect(address, Credentials(ca=cert, certificate=cert, key=key)), [tmp_path / "series"])
        assert (len(pushed.stored), dict(pushed.failed)) == (9, {})
        for unknown in (Credentials(certificate=cert, key=key), Credentials(ca=cert)):
            with pytest.raises(UnavailableError, match="with TLS"):
                push(connect(address, unknown), [tmp_path / "series"])
    with warnings.catch_warnings():  # pynetdicom does not close a socket whose handshake failed
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.mark.slow
def test_what_got_no_answer_is_sent_once_more(tmp_path, monkeypatch):
    """An archive that drops the first association in the middle has everything in the end, each instance once."""
    monkeypatch.setattr("unetpp_monai.pacs.dimse.STORE_SECONDS", 2)
    from pynetdicom import evt

    make_series(tmp_path / "series", axial_affine(), (8, 8, 6))
    (tmp_path / "archive").mkdir()
    seen = []

    def store(event):
        seen.append(str(event.request.AffectedSOPInstanceUID))
        if len(seen) == 3:
            event.assoc.abort()
        return receive(event, tmp_path / "archive")

    port = free_port()
    with receiving("ARCHIVE", ("127.0.0.1", port), [(evt.EVT_C_STORE, store)]):
        pushed = push(connect(f"dimse://ARCHIVE@127.0.0.1:{port}"), [tmp_path / "series"])
    assert len(pushed.stored) == 6 and not pushed.failed
    assert len(seen) == 7 and len(list((tmp_path / "archive").iterdir())) == 6
