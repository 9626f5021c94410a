"""An old-fashioned shop in Django: a model form with its CSRF token and an attachment.

It knows nothing of a gateway but what every Django behind a reverse proxy is told: which hosts it
answers for, and the header that says that the shopper came by TLS. Started by
`python django_shop.py runserver`.
"""

import hashlib
import logging
import os
import sys
from pathlib import Path

import django
from django.conf import settings

FOLDER = Path(os.environ["SHOP_FOLDER"])

settings.configure(
    DEBUG=False,
    SECRET_KEY=os.environ["SHOP_SECRET"],
    ALLOWED_HOSTS=[os.environ["SHOP_HOST"], "127.0.0.1"],
    SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"),
    CSRF_COOKIE_SECURE=True,
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
    ],
    INSTALLED_APPS=[],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    DATABASES={
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": FOLDER / "shop.sqlite3"}
    },
    USE_TZ=True,
)
django.setup()

from django import forms  # noqa: E402 - Django is set up first
from django.core.management import execute_from_command_line  # noqa: E402 - Django is set up first
from django.db import connection, models  # noqa: E402 - Django is set up first
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect  # noqa: E402 - Django is set up first
from django.template import engines  # noqa: E402 - Django is set up first
from django.urls import path  # noqa: E402 - Django is set up first

log = logging.getLogger("django.server")

FORM = """<!doctype html><title>Pay</title>
<form method="post" action="/checkout/" enctype="multipart/form-data">
{% csrf_token %}{{ form.as_p }}<button>Pay</button></form>"""
ORDER = """<!doctype html><title>Order {{ order.pk }}</title>
<dl><dt>Holder</dt><dd id="holder">{{ order.holder }}</dd>
<dt>Card</dt><dd id="number">{{ order.number }}</dd>
<dt>Expires</dt><dd id="expiry">{{ order.exp_month }}/{{ order.exp_year }}</dd>
<dt>Code</dt><dd id="cvc">{{ order.cvc }}</dd>
<dt>Photograph</dt><dd id="photograph">{{ order.photograph_sha256 }}</dd></dl>"""


class Order(models.Model):
    """What a shopper sent."""

    holder = models.CharField(max_length=100)
    number = models.CharField(max_length=64)
    exp_month = models.IntegerField()
    exp_year = models.IntegerField()
    cvc = models.CharField(max_length=4)
    photograph_sha256 = models.CharField(max_length=64)

    class Meta:
        """One file has no application."""

        app_label = "shop"

    def __str__(self) -> str:
        return f"order {self.pk}"


class OrderForm(forms.Form):
    """The card, and a photograph of a document."""

    holder = forms.CharField(max_length=100)
    number = forms.CharField(max_length=64)
    exp_month = forms.IntegerField(min_value=1, max_value=12)
    exp_year = forms.IntegerField(min_value=2000, max_value=2099)
    cvc = forms.RegexField(r"^[0-9]{3,4}$")
    photograph = forms.FileField()


def page(source: str, request: HttpRequest, **words: object) -> HttpResponse:
    return HttpResponse(engines["django"].from_string(source).render(words, request))


def checkout(request: HttpRequest) -> HttpResponse:
    if request.method != "POST":
        return page(FORM, request, form=OrderForm())
    log.warning("paid with %s", dict(request.POST.items()))
    form = OrderForm(request.POST, request.FILES)
    if not form.is_valid():
        return HttpResponse(form.errors.as_json(), status=400, content_type="application/json")
    given = dict(form.cleaned_data)
    photograph = given.pop("photograph").read()
    (FOLDER / "photograph").write_bytes(photograph)
    order = Order.objects.create(**given, photograph_sha256=sha256(photograph))
    return HttpResponseRedirect(f"/orders/{order.pk}/")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def show(request: HttpRequest, order: int) -> HttpResponse:
    try:
        return page(ORDER, request, order=Order.objects.get(pk=order))
    except Order.DoesNotExist:
        raise Http404 from None


urlpatterns = [path("checkout/", checkout), path("orders/<int:order>/", show)]

if __name__ == "__main__":
    with connection.schema_editor() as editor:
        if Order._meta.db_table not in connection.introspection.table_names():
            editor.create_model(Order)
    connection.close()
    execute_from_command_line(sys.argv)
